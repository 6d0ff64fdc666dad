"""Tool servers whose sign-in lies: it leads LM Desk to no place where it must not go."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from core.errors import ToolServerFailed
from core.tool_entries import ServerEntry
from core.tool_sign_in import SignInAnswer, SignInFailed
from infrastructure.tools.keys import KeyFile
from infrastructure.tools.remote import AddressRefused, remote_client
from infrastructure.tools.sign_in_places import sign_in_problem
from infrastructure.tools.signing_in import SigningIn
from tests.sockets import Watch, json_reply, serve
from tests.tool_boxes import Box

pytestmark = pytest.mark.anyio


class Liar:
    """Names places where LM Desk must not go, at one step of its sign-in."""

    def __init__(self, step: str, place: str) -> None:
        self.step = step
        self.place = place
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/mcp":
            there = self.place if self.step == "resource" else f"{self.url}/prm"
            header = f'Bearer resource_metadata="{there}"'.encode()
            await send(
                {
                    "type": "http.response.start",
                    "status": 401,
                    "headers": [(b"www-authenticate", header)],
                }
            )
            await send({"type": "http.response.body", "body": b""})
        elif path == "/prm" and self.step == "redirect":
            headers = [(b"location", self.place.encode())]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        elif path in ("/prm", "/.well-known/oauth-protected-resource/mcp"):
            issuer = self.place if self.step == "issuer" else self.url
            body = {"resource": f"{self.url}/mcp", "authorization_servers": [issuer]}
            await json_reply(send, 200, body)
        elif path.startswith("/.well-known/oauth-authorization-server"):
            places = {
                f"{name}_endpoint": f"{self.url}/{name}"
                for name in ("authorization", "token", "registration")
            }
            if self.step in ("authorization", "token", "registration"):
                places[f"{self.step}_endpoint"] = self.place
            facts = {"issuer": self.url, "response_types_supported": ["code"], **places}
            await json_reply(send, 200, facts)
        elif path == "/registration":
            await json_reply(send, 201, {"client_id": "c", "redirect_uris": ["http://x/"]})
        else:
            await json_reply(send, 404, {})


@pytest.mark.parametrize(
    "place",
    [
        "http://169.254.169.254/latest",
        "http://[::ffff:169.254.169.254]/x",
        "http://2852039166/decimal",
        "http://metadata.google.internal/x",
        "http://10.0.0.7/private",
        "https://192.168.1.1/router",
        "http://user:hunter-two@127.0.0.1/x",
    ],
)
@pytest.mark.parametrize("step", ["resource", "issuer", "registration", "token", "authorization"])
async def test_a_sign_in_leads_to_no_secret_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, place: str
) -> None:
    reached: list[tuple[str, int]] = []
    await _note_connections(monkeypatch, reached)
    liar = Liar(step, place)
    async with serve(liar) as liar.url:
        keys = KeyFile(tmp_path / "keys.json")
        tools = Box(tmp_path, keys=keys, signing=SigningIn(keys))
        tools.write({"far": {"url": f"{liar.url}/mcp"}})
        await tools.say_yes("far")
        if step == "token":
            # Nobody goes there before a person came back.
            page = await tools.sign_in("far", "http://127.0.0.1:1/back")
            state = parse_qs(urlsplit(page.url).query)["state"][0]
            with pytest.raises(SignInFailed):
                await tools.finish_sign_in(SignInAnswer(state=state, code="c"))
        else:
            with pytest.raises(SignInFailed) as refused:
                await tools.sign_in("far", "http://127.0.0.1:1/back")
            assert "hunter-two" not in refused.value.message
        await tools.aclose()
    port = int(liar.url.rpartition(":")[2])
    assert reached
    assert set(reached) == {("127.0.0.1", port)}
    assert (
        not (tmp_path / "keys.json").exists()
        or "access" not in (tmp_path / "keys.json").read_text()
    )


async def _note_connections(
    monkeypatch: pytest.MonkeyPatch, reached: list[tuple[str, int]]
) -> None:
    """Every address a connection is really tried to."""
    from httpcore2 import AnyIOBackend

    original = AnyIOBackend.connect_tcp

    async def noted(self: Any, host: str, port: int, *more: Any, **options: Any) -> Any:
        reached.append((host, port))
        return await original(self, host, port, *more, **options)

    monkeypatch.setattr(AnyIOBackend, "connect_tcp", noted)


async def test_a_redirect_in_a_sign_in_to_another_place_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await json_reply(send, 200, {})

    async with serve(elsewhere) as other:
        liar = Liar("redirect", f"{other}/prm")
        async with serve(liar) as liar.url:
            keys = KeyFile(tmp_path / "keys.json")
            tools = Box(tmp_path, keys=keys, signing=SigningIn(keys))
            tools.write({"far": {"url": f"{liar.url}/mcp"}})
            await tools.say_yes("far")
            # It goes on with the well-known address of the server itself.
            page = await tools.sign_in("far", "http://127.0.0.1:1/back")
            await tools.aclose()
    assert page.url.startswith(f"{liar.url}/authorization?")
    assert asked == []


@pytest.mark.parametrize("where", ["/mcp", "/.well-known/oauth-protected-resource/mcp"])
async def test_an_answer_without_end_ends_the_sign_in(tmp_path: Path, where: str) -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        status = 401 if scope["path"] == "/mcp" else 200 if scope["path"] == where else 404
        await send({"type": "http.response.start", "status": status, "headers": []})
        watch = Watch(receive)
        while scope["path"] == where and not watch.is_gone:
            await send({"type": "http.response.body", "body": b" " * 100_000, "more_body": True})
            await asyncio.sleep(0)
        watch.close()
        await send({"type": "http.response.body", "body": b""})

    async with serve(endless) as url:
        keys = KeyFile(tmp_path / "keys.json")
        tools = Box(tmp_path, keys=keys, signing=SigningIn(keys))
        tools.write({"far": {"url": f"{url}/mcp"}})
        await tools.say_yes("far")
        with pytest.raises(SignInFailed, match="answers without end"):
            await tools.sign_in("far", "http://127.0.0.1:1/back")
        with pytest.raises(ToolServerFailed):
            await tools.tools(["far"])
        await tools.aclose()


async def test_a_server_elsewhere_cannot_send_us_to_this_machine(tmp_path: Path) -> None:
    far = ServerEntry(name="far", source="x", transport="http", url="https://tools.example/mcp")
    near = far.model_copy(update={"url": "http://127.0.0.1:3000/mcp"})
    home = far.model_copy(update={"url": "http://nas.home/mcp", "allow_private": True})
    for url in ("http://127.0.0.1:9/x", "https://localhost/x", "http://[::1]/x"):
        assert "this machine" in sign_in_problem(url, far)
        assert "this machine" in sign_in_problem(url, home)
        assert sign_in_problem(url, near) == ""
    assert sign_in_problem("https://auth.example/x", far) == ""
    assert sign_in_problem("http://auth.example/x", far)
    assert sign_in_problem("http://192.168.1.9/x", home) == ""
    assert sign_in_problem("http://169.254.169.254/x", home)


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "127。0。0。1",
        "foo.localhost",
        "localhost.",
        "ⓛocalhost",
        "local\u00adhost",
        "127\u00ad.1",
        "[::ffff:127.0.0.1]",
        "192.168.257",
        "169.254.43518",
        "0",
        "a%2eexample",
        "a\\b.example",
    ],
)
async def test_no_way_to_write_a_host_sends_a_browser_to_this_machine(host: str) -> None:
    far = ServerEntry(name="far", source="x", transport="http", url="https://tools.example/mcp")
    home = far.model_copy(update={"url": "http://nas.home/mcp", "allow_private": True})
    for entry in (far, home):
        assert sign_in_problem(f"https://{host}/", entry)


async def test_names_in_other_scripts_and_single_words_are_hosts_like_others() -> None:
    far = ServerEntry(name="far", source="x", transport="http", url="https://tools.example/mcp")
    home = far.model_copy(update={"url": "http://nas.home/mcp", "allow_private": True})
    for host in ("bücher.example", "a_b.c-d.example", "auth4.example:8443", "[2606:4700::1111]"):
        assert sign_in_problem(f"https://{host}/x", far) == ""
    assert sign_in_problem("http://router/x", home) == ""


async def test_a_name_that_leads_here_is_refused_in_a_sign_in_to_a_server_elsewhere() -> None:
    async def nobody(scope: Any, receive: Any, send: Any) -> None:
        await json_reply(send, 200, {})

    async with serve(nobody) as url:
        port = url.rpartition(":")[2]
        for own, is_refused in (("nas.home", True), ("127.0.0.1", False), (None, False)):
            async with remote_client({}, allow_private=True, only_here=own) as client:
                if is_refused:
                    with pytest.raises(AddressRefused, match="this machine"):
                        await client.get(f"http://127.1:{port}/")
                else:
                    assert (await client.get(f"http://127.1:{port}/")).status_code == 200
