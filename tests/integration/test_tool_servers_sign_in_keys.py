"""Keys of tool servers: renewed whoever stops waiting, gone for good where they are thrown away."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from core.errors import ToolServerFailed
from core.tool_sign_in import SignInAnswer, SignInFailed, SignInGone, ToolServerNeedsSignIn
from infrastructure.tools.keys import KeyFile
from infrastructure.tools.signing_in import SigningIn
from tests.integration.test_tool_servers_sign_in import (
    URL,
    brought_back,
    browse,
    complete,
    sign_in,
    signed_desk,
)
from tests.sign_in_servers import Authority, authority, guarded_tools
from tests.sockets import free_port, json_reply, serve, until
from tests.tool_boxes import Box, box

pytestmark = pytest.mark.anyio
BACK = "http://127.0.0.1:1/back"
PLAIN = TransportSecuritySettings(enable_dns_rebinding_protection=False)


@asynccontextmanager
async def signed_box(tmp_path: Path) -> AsyncGenerator[tuple[Box, Authority]]:
    """Tools of a server, `far`, that somebody is signed in to."""
    async with authority() as made, guarded_tools(made) as url:
        keys = KeyFile(tmp_path / "keys.json")
        async with box(
            tmp_path, {"far": {"url": url}}, keys=keys, signing=SigningIn(keys)
        ) as tools:
            await complete(tools, BACK)
            yield tools, made


def kept(tmp_path: Path, made: Authority, name: str = "keys.json") -> list[str]:
    """The keys that can be read on the disk."""
    text = (tmp_path / name).read_text()
    return [secret for secret in made.secrets if secret in text]


async def shout(tools: Box, text: str) -> str:
    return (await tools.call("far", "shout", {"text": text}, seconds=20)).text


async def test_who_signs_out_while_calls_are_made_stays_signed_out(tmp_path: Path) -> None:
    async with signed_box(tmp_path) as (tools, made):
        answered = asyncio.Event()
        refused = 0

        async def goes_on() -> None:
            nonlocal refused
            while True:
                try:
                    await shout(tools, "a")
                    answered.set()
                except ToolServerNeedsSignIn:
                    refused += 1
                    return
                except ToolServerFailed:
                    continue  # it was just stopped

        callers = [asyncio.create_task(goes_on()) for _ in range(4)]
        await answered.wait()
        assert (await tools.sign_out("far")).signed_in is False
        await asyncio.wait_for(asyncio.gather(*callers), 30)
        assert refused == 4
        made.revoke()
        with pytest.raises(ToolServerNeedsSignIn):
            await shout(tools, "b")
        assert (await tools.server("far")).signed_in is False
        assert not kept(tmp_path, made)


async def test_a_key_that_was_thrown_away_is_not_renewed_into_the_file(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    old, new = ({"access_token": word, "token_type": "Bearer"} for word in ("old", "new"))
    await keys.put("far", "https://a.example", tokens=old, return_to=BACK)
    assert await keys.renew("far", "https://a.example", old, tokens=new)
    assert not await keys.renew("far", "https://a.example", old, tokens=old)
    assert not await keys.renew("far", "https://b.example", new, tokens=old)
    await keys.drop("far")
    assert not await keys.renew("far", "https://a.example", new, tokens=old)
    assert await keys.get("far", "https://a.example") == {}
    assert await keys.known() == frozenset()
    # Whoever is cancelled as it is written: it is written, and known of.
    putting = asyncio.create_task(keys.put("far", "https://a.example", tokens=new, return_to=BACK))
    await asyncio.sleep(0)
    putting.cancel()
    await asyncio.wait({putting})
    assert putting.cancelled()
    await until(lambda: "new" in (tmp_path / "keys.json").read_text())
    await keys.drop("far")
    assert "new" not in (tmp_path / "keys.json").read_text()


@pytest.mark.parametrize(
    "entry",
    [
        {"tokens": {"access_token": "a", "token_type": "Bearer"}},
        {"tokens": {"token_type": "Bearer"}, "return_to": BACK},
        {"tokens": "a", "return_to": BACK},
    ],
)
async def test_half_a_key_is_none(tmp_path: Path, entry: dict[str, Any]) -> None:
    async with authority() as made, guarded_tools(made) as url:
        servers = {"far": {"url": url, **entry}}
        (tmp_path / "keys.json").write_text(json.dumps({"version": 1, "servers": servers}))
        keys = KeyFile(tmp_path / "keys.json")
        async with box(
            tmp_path, {"far": {"url": url}}, keys=keys, signing=SigningIn(keys)
        ) as tools:
            with pytest.raises(ToolServerNeedsSignIn):
                await tools.restart("far")
            assert (await tools.server("far")).signed_in is False


async def test_a_key_is_renewed_though_the_call_that_needed_it_is_stopped(tmp_path: Path) -> None:
    async with signed_box(tmp_path) as (tools, made):
        made.revoke()
        made.may_answer.clear()
        stopped = asyncio.create_task(shout(tools, "a"))
        await until(lambda: made.refreshes == 1)
        stopped.cancel()
        await asyncio.wait({stopped})
        others = [asyncio.create_task(shout(tools, text)) for text in "bc"]
        made.may_answer.set()
        assert await asyncio.gather(*others) == ["B", "C"]
        # One for all, as the server takes the old one back.
        assert made.refreshes == 1

        made.revoke()
        made.may_answer.clear()
        stopped = asyncio.create_task(shout(tools, "d"))
        await until(lambda: made.refreshes == 2)
        stopped.cancel()
        await asyncio.wait({stopped})
        ending = asyncio.create_task(tools.aclose())
        await asyncio.sleep(0)
        made.may_answer.set()
        await ending
        assert len(made.refreshing) == 1
        assert next(iter(made.refreshing)) in kept(tmp_path, made)


async def test_a_fault_where_keys_are_renewed_is_no_reason_to_sign_in(tmp_path: Path) -> None:
    async with signed_box(tmp_path) as (tools, made):
        for lifetime in (3600, -60):  # it is refused, or says itself that it is over
            made.revoke()
            made.breaks = True
            with pytest.raises(
                ToolServerFailed, match=r"could not be renewed.*status 500"
            ) as fault:
                await shout(tools, "a")
            assert not isinstance(fault.value, ToolServerNeedsSignIn)
            seen = await tools.server("far")
            assert (seen.state, seen.signed_in) == ("failed", True)
            made.breaks, made.lifetime = False, lifetime
            assert await shout(tools, "b") == "B"


@pytest.mark.parametrize("act", ["distrust", "sign-out"])
async def test_a_no_while_the_browser_comes_back_keeps_no_key(tmp_path: Path, act: str) -> None:
    async with signed_desk(tmp_path) as (desk, made):
        made.may_answer.clear()
        page = (await desk.post(f"{URL}/sign-in")).json()
        browser = asyncio.create_task(browse(page))
        await until(lambda: bool(made.tokens))
        said = await desk.post(f"{URL}/{act}")
        assert said.json()["signed_in"] is False
        made.may_answer.set()
        back = await browser
        assert back.status_code == 400
        assert "this sign-in is over" in back.text
        assert "You are signed in" not in back.text
        assert (await desk.get(URL)).json()["signed_in"] is False
        assert not kept(tmp_path, made, "tool-keys.json")


async def test_the_page_at_the_end_says_what_became_of_the_server(tmp_path: Path) -> None:
    async with signed_desk(tmp_path) as (desk, _):
        file = tmp_path / "tool-servers.json"
        whole = json.loads(file.read_text())
        other = {"server": "far", "name": "other", "description": "", "arguments": {}}
        whole["servers"]["far"]["known"] = [other]
        file.write_text(json.dumps(whole))
        back = await sign_in(desk)
        assert "LM Desk cannot use far yet. The tools of far are not the ones" in back.text
        assert (await desk.get(URL)).json()["state"] == "changed"


async def test_the_panel_knows_whether_a_person_is_awaited(tmp_path: Path) -> None:
    async with signed_desk(tmp_path) as (desk, made):
        made.denies = True
        assert (await desk.get(URL)).json()["signing_in"] is False
        page = (await desk.post(f"{URL}/sign-in")).json()
        assert (await desk.get(URL)).json()["signing_in"] is True
        assert (await browse(page)).status_code == 400
        assert (await desk.get(URL)).json()["signing_in"] is False


async def test_of_several_sign_ins_the_newest_counts_and_the_others_are_told(
    tmp_path: Path,
) -> None:
    async with authority() as made, guarded_tools(made) as url:
        keys = KeyFile(tmp_path / "keys.json")
        signing = SigningIn(keys)
        async with box(tmp_path, {"far": {"url": url}}, keys=keys, signing=signing) as tools:
            pages = await asyncio.gather(
                *(tools.sign_in("far", BACK) for _ in range(3)), return_exceptions=True
            )
            *older, newest = pages
            for each in older:
                assert isinstance(each, SignInFailed)
                assert "was asked once more" in each.message
            assert not isinstance(newest, BaseException)
            server = await tools.finish_sign_in(await brought_back(newest.url))
            assert server.state == "ready"
            assert signing.waiting == ()


@asynccontextmanager
async def asking_at_calls(made: Authority) -> AsyncGenerator[str]:
    """A server that shows its tools to all, and says at a call where to sign in."""
    server = MCPServer("half", version="1")

    @server.tool()
    async def shout(text: str) -> str:
        """Says it louder."""
        return text.upper()

    app = server.streamable_http_app(transport_security=PLAIN)
    port = free_port()
    home = f"http://127.0.0.1:{port}"

    async def asking(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/described/elsewhere":
            facts = {"resource": f"{home}/mcp", "authorization_servers": [f"{made.url}/"]}
            await json_reply(send, 200, facts)
            return
        message = await receive()
        token = dict(scope["headers"]).get(b"authorization", b"").decode()
        if b'"tools/call"' in message.get("body", b"") and token[7:] not in made.tokens:
            asks = f'Bearer resource_metadata="{home}/described/elsewhere"'.encode()
            await send(
                {
                    "type": "http.response.start",
                    "status": 401,
                    "headers": [(b"www-authenticate", asks)],
                }
            )
            await send({"type": "http.response.body", "body": b""})
            return
        first = [message]

        async def again() -> Any:
            return first.pop() if first else await receive()

        await app(scope, again, send)

    async with server.session_manager.run(), serve(asking, port=port):
        yield f"{home}/mcp"


async def test_a_server_that_asks_at_a_call_alone_can_be_signed_in_to(tmp_path: Path) -> None:
    async with authority() as made, asking_at_calls(made) as url:
        keys = KeyFile(tmp_path / "keys.json")
        async with box(
            tmp_path, {"far": {"url": url}}, keys=keys, signing=SigningIn(keys)
        ) as tools:
            assert [tool.name for tool in await tools.tools(["far"])] == ["shout"]
            with pytest.raises(SignInFailed, match="asks nobody to sign in"):
                await tools.sign_in("far", BACK)
            with pytest.raises(ToolServerNeedsSignIn):
                await shout(tools, "a")
            assert (await tools.server("far")).state == "needs_sign_in"
            assert (await complete(tools, BACK)).state == "ready"
            assert await shout(tools, "b") == "B"


@pytest.mark.parametrize(
    "address", ["http://LOCALHOST:{}/mcp", "http://127.0.0.1:{}/x/../mcp", "http://127.0.0.1:{}/on"]
)
async def test_a_long_result_comes_whole_however_the_address_is_written(
    tmp_path: Path, address: str
) -> None:
    server = MCPServer("big", version="1")

    @server.tool()
    async def big(length: int) -> str:
        """Says much."""
        return "x" * length

    app = server.streamable_http_app(transport_security=PLAIN)

    async def moved(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/on":
            headers = [(b"location", b"/mcp")]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        await app(scope, receive, send)

    async with server.session_manager.run(), serve(moved) as url:
        entry = {"url": address.format(url.rpartition(":")[2])}
        async with box(tmp_path, {"far": entry}) as tools:
            result = await tools.call("far", "big", {"length": 1_200_000}, seconds=20)
            assert len(result.text) == 1_200_000


async def test_an_answer_for_a_sign_in_that_is_over_is_gone(tmp_path: Path) -> None:
    async with authority() as made, guarded_tools(made) as url:
        keys = KeyFile(tmp_path / "keys.json")
        signing = SigningIn(keys)
        async with box(tmp_path, {"far": {"url": url}}, keys=keys, signing=signing) as tools:
            page = await tools.sign_in("far", BACK)
            answer = await brought_back(page.url)
            made.may_answer.clear()
            first = asyncio.create_task(tools.finish_sign_in(answer))
            await until(lambda: bool(made.tokens))
            # Once, though the first is not yet done.
            with pytest.raises(SignInGone, match="is over"):
                await tools.finish_sign_in(SignInAnswer(state=answer.state, code="another"))
            made.may_answer.set()
            assert (await first).signed_in
