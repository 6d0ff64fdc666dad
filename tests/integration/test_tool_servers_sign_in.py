"""Signing in to remote tool servers: the way there and back, what is kept, and what is refused."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from mcp.shared.auth import OAuthClientInformationFull
from pydantic import AnyUrl

from api.main import create_app
from api.security import guarded
from api.settings import Settings
from app.client import DeskClient
from app.tools_ui import add_return
from core.errors import ToolServerFailed
from core.tool_server import ToolServer
from core.tool_sign_in import SignInAnswer, SignInFailed, SignInGone, ToolServerNeedsSignIn
from infrastructure.tools.keys import KeyFile
from infrastructure.tools.signing_in import SigningIn
from tests.desk import DeskUnderTest, run_desk
from tests.sign_in_servers import Authority, authority, guarded_tools
from tests.sockets import json_reply, serve, until
from tests.tool_boxes import Box

pytestmark = pytest.mark.anyio
URL = "/api/v1/tool-servers/far"


@asynccontextmanager
async def signed_desk(
    tmp_path: Path, **settings: Any
) -> AsyncGenerator[tuple[DeskUnderTest, Authority]]:
    """A desk that trusts one tool server, `far`, to which nobody has signed in yet."""
    async with authority() as made, guarded_tools(made) as url:
        (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"far": {"url": url}}}))
        async with run_desk(tmp_path, mcp_files=(), **settings) as desk:
            await say_yes(desk, "far")
            yield desk, made


async def browse(page: dict[str, Any]) -> httpx.Response:
    """What a browser does with the address a person was given, to the very end."""
    async with httpx.AsyncClient(follow_redirects=True, trust_env=False, timeout=30) as browser:
        return await browser.get(page["url"])


async def sign_in(desk: DeskUnderTest) -> httpx.Response:
    page = await desk.post(f"{URL}/sign-in")
    assert page.status_code == 200, page.text
    return await browse(page.json())


async def test_a_person_signs_in_by_their_browser_and_the_tools_are_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # The browser of this test is nobody's to keep secrets from.
    for loud in ("httpx", "httpcore"):
        caplog.set_level(logging.WARNING, logger=loud)
    answers = []
    async with signed_desk(tmp_path) as (desk, made):
        refused = await desk.post(f"{URL}/restart")
        assert (refused.status_code, refused.json()["code"]) == (502, "tool_server_needs_sign_in")
        seen = (await desk.get(URL)).json()
        assert (seen["state"], seen["signed_in"]) == ("needs_sign_in", False)
        assert "wants you to sign in" in seen["message"]
        draft = {"name": "A", "tools": [{"server": "far", "tool": None}]}
        check = (await desk.post("/api/v1/agents/check", json=draft)).json()
        assert "tool_server_needs_sign_in" in {each["code"] for each in check["problems"]}
        # Nobody is registered anywhere before a person asks for it.
        assert not made.clients

        asked = await desk.post(f"{URL}/sign-in")
        page = asked.json()
        assert page["host"] == urlsplit(made.url).netloc
        assert page["url"].startswith(f"{made.url}/authorize?")
        query = parse_qs(urlsplit(page["url"]).query)
        assert query["code_challenge_method"] == ["S256"]
        assert query["redirect_uri"] == [
            f"{str(desk.base_url).rstrip('/')}/api/v1/tool-servers/oauth/callback"
        ]
        back = await browse(page)
        assert back.status_code == 200
        assert "You are signed in" in back.text
        assert "far" in back.text
        assert "script" not in back.text
        assert back.headers["content-security-policy"].startswith("default-src 'none'")
        assert back.headers["cache-control"] == "no-store"

        ready = (await desk.get(URL)).json()
        assert (ready["state"], ready["signed_in"]) == ("ready", True)
        assert [tool["name"] for tool in ready["tools"]] == ["shout"]
        # Once.
        again = await desk.get(str(back.url))
        assert (again.status_code, "is over" in again.text) == (404, True)

        answers += [asked.text, back.text, (await desk.get("/api/v1/tool-servers")).text]
        keys = tmp_path / "tool-keys.json"
        assert keys.stat().st_mode & 0o777 == 0o600
        access, refresh = next(iter(made.tokens)), next(iter(made.refreshing))
        assert access in keys.read_text()
        assert refresh in keys.read_text()
        told = caplog.text + "".join(answers)
        assert not [secret for secret in made.secrets if secret in told]


async def test_signing_in_outlives_us_and_an_old_token_is_refreshed(tmp_path: Path) -> None:
    async with authority() as made, guarded_tools(made) as url:
        (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"far": {"url": url}}}))
        async with run_desk(tmp_path, mcp_files=()) as desk:
            await say_yes(desk, "far")
            made.lifetime = -60
            await sign_in(desk)
            # It says of itself that it is over, so it is refreshed before it is used.
            assert made.refreshes >= 1
            made.lifetime = 3600
            await desk.post(f"{URL}/restart")
            count, first = made.refreshes, (tmp_path / "tool-keys.json").read_text()
            assert (await desk.post(f"{URL}/restart")).json()["state"] == "ready"
            assert made.refreshes == count

        async with run_desk(tmp_path, mcp_files=()) as desk:
            assert (await desk.post(f"{URL}/restart")).json()["state"] == "ready"
            assert made.refreshes == count
            # The server takes it back early; that is noticed by its 401 alone.
            made.revoke()
            assert (await desk.post(f"{URL}/restart")).json()["state"] == "ready"
            assert made.refreshes == count + 1
            assert (tmp_path / "tool-keys.json").read_text() != first
            made.revoke(refresh=True)
            over = await desk.post(f"{URL}/restart")
            assert over.json()["code"] == "tool_server_needs_sign_in"
            assert len(made.clients) == 1


async def test_a_token_that_ends_in_the_middle_is_refreshed_and_the_call_is_made(
    tmp_path: Path,
) -> None:
    async with authority() as made, guarded_tools(made) as url:
        keys = KeyFile(tmp_path / "keys.json")
        tools = Box(tmp_path, keys=keys, signing=SigningIn(keys))
        tools.write({"far": {"url": url}})
        await tools.say_yes("far")
        with pytest.raises(ToolServerNeedsSignIn):
            await tools.tools(["far"])
        try:
            await complete(tools, "http://127.0.0.1:1/back")
            made.revoke()
            result = await tools.call("far", "shout", {"text": "still"}, seconds=20)
            assert result.text == "STILL"
            assert made.refreshes == 1
            made.revoke(refresh=True)
            with pytest.raises(ToolServerNeedsSignIn, match="wants you to sign in"):
                await tools.call("far", "shout", {"text": "gone"}, seconds=20)
            assert (await tools.server("far")).state == "needs_sign_in"
        finally:
            await tools.aclose()


async def complete(tools: Box, return_to: str) -> ToolServer:
    """All of a sign-in, with what its page would bring back."""
    page = await tools.sign_in("far", return_to)
    return await tools.finish_sign_in(await brought_back(page.url))


async def brought_back(url: str) -> SignInAnswer:
    async with httpx.AsyncClient(trust_env=False) as browser:
        there = await browser.get(url)
    query = parse_qs(urlsplit(there.headers["location"]).query)
    return SignInAnswer(**{name: values[0] for name, values in query.items()})


async def test_who_signs_out_leaves_nothing_behind(tmp_path: Path) -> None:
    keys = tmp_path / "tool-keys.json"
    async with signed_desk(tmp_path) as (desk, made):
        await sign_in(desk)
        out = (await desk.post(f"{URL}/sign-out")).json()
        assert (out["state"], out["signed_in"]) == ("idle", False)
        assert not [secret for secret in made.secrets if secret in keys.read_text()]
        assert (await desk.post(f"{URL}/restart")).json()["code"] == "tool_server_needs_sign_in"

        await sign_in(desk)
        assert (await desk.post(f"{URL}/distrust")).json()["signed_in"] is False
        seen = (await desk.get(URL)).json()
        await desk.post(f"{URL}/trust", json={"hash": seen["hash"]})
        await sign_in(desk)
        assert (await desk.get(URL)).json()["signed_in"] is True
        assert (await desk.delete(URL)).status_code == 204
        assert not [secret for secret in made.secrets if secret in keys.read_text()]


async def test_keys_go_with_the_entry_and_to_no_other_address(tmp_path: Path) -> None:
    keys = tmp_path / "tool-keys.json"
    heard: list[dict[str, str]] = []

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        heard.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await json_reply(send, 401, {})

    async with signed_desk(tmp_path) as (desk, made), serve(listening) as elsewhere:
        await sign_in(desk)
        entries = {"mcpServers": {"far": {"url": f"{elsewhere}/mcp"}}}
        (tmp_path / "mcp.json").write_text(json.dumps(entries))
        seen = (await desk.get(URL)).json()
        assert (seen["state"], seen["signed_in"]) == ("changed", False)
        await desk.post(f"{URL}/trust", json={"hash": seen["hash"]})
        await desk.post(f"{URL}/restart")
        assert heard
        assert not [each for each in heard if "authorization" in each]

        (tmp_path / "mcp.json").write_text("{ broken")
        await desk.get("/api/v1/tool-servers")
        assert [secret for secret in made.secrets if secret in keys.read_text()]
        (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {}}))
        await desk.get("/api/v1/tool-servers")
        assert not [secret for secret in made.secrets if secret in keys.read_text()]


async def test_a_no_a_wrong_state_and_nothing_at_all_are_told_and_keep_nothing(
    tmp_path: Path,
) -> None:
    back = "/api/v1/tool-servers/oauth/callback"
    async with signed_desk(tmp_path) as (desk, made):
        made.denies = True
        denied = await sign_in(desk)
        assert denied.status_code == 400
        assert "You, or the server, said no." in denied.text

        made.denies = False
        page = (await desk.post(f"{URL}/sign-in")).json()
        state = parse_qs(urlsplit(page["url"]).query)["state"][0]
        bent = {"code": "code-of-somebody-else", "state": f"{state}x"}
        for query in (bent, {"code": "c"}, {"state": state[:-1]}, {}):
            wrong = await desk.get(back, params=query)
            assert (wrong.status_code, "is over" in wrong.text) == (404, True)
        # A code that was never given is refused where it is exchanged, and the state is used up.
        guessed = await desk.get(back, params={"code": "guessed", "state": state})
        assert guessed.status_code == 400
        assert "did not give a key" in guessed.text
        assert (await desk.get(back, params={"code": "x", "state": state})).status_code == 404
        hostile = await desk.get(back, params={"error": "<script>alert(1)</script>", "state": "x"})
        assert "<script>" not in hostile.text
        assert (await desk.get(URL)).json()["signed_in"] is False
        assert not made.tokens

        # A second attempt ends the first.
        old = (await desk.post(f"{URL}/sign-in")).json()
        new = (await desk.post(f"{URL}/sign-in")).json()
        assert (await browse(old)).status_code == 404
        assert (await browse(new)).status_code == 200
        assert len(made.clients) == 1


async def test_a_person_who_takes_too_long_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with authority() as made, guarded_tools(made) as url:
        keys = KeyFile(tmp_path / "keys.json")
        signing = SigningIn(keys)
        tools = Box(tmp_path, keys=keys, signing=signing)
        tools.write({"far": {"url": url}})
        await tools.say_yes("far")
        monkeypatch.setattr("infrastructure.tools.signing_in.PERSON_SECONDS", 0.05)
        page = await tools.sign_in("far", "http://127.0.0.1:1/back")
        answer = await brought_back(page.url)
        await until(lambda: not signing.waiting)
        with pytest.raises(SignInGone, match="is over"):
            await tools.finish_sign_in(answer)
        assert not made.tokens
        await tools.aclose()


async def test_signing_in_needs_a_yes_a_switch_and_a_server_that_asks(tmp_path: Path) -> None:
    async with signed_desk(tmp_path) as (desk, made):
        await desk.post(f"{URL}/distrust")
        refused = await desk.post(f"{URL}/sign-in")
        assert refused.json()["code"] == "tool_server_not_trusted"
        seen = (await desk.get(URL)).json()
        await desk.post(f"{URL}/trust", json={"hash": seen["hash"]})
        await desk.post(f"{URL}/disable")
        assert (await desk.post(f"{URL}/sign-in")).json()["code"] == "tool_server_off"
        assert not made.clients

        async def open_to_all(scope: Any, receive: Any, send: Any) -> None:
            await json_reply(send, 200, {"jsonrpc": "2.0", "id": 1, "result": {}})

        async def asks_and_says_nothing(scope: Any, receive: Any, send: Any) -> None:
            await json_reply(send, 401 if scope["path"] == "/mcp" else 404, {})

        for app, word in ((open_to_all, "asks nobody"), (asks_and_says_nothing, "does not say")):
            async with serve(app) as url:
                await add(desk, "other", f"{url}/mcp")
                answer = await desk.post("/api/v1/tool-servers/other/sign-in")
                assert (answer.status_code, answer.json()["code"]) == (502, "tool_sign_in_failed")
                assert word in answer.json()["detail"]
        key = {"Authorization": "Bearer mine"}
        await desk.put(
            "/api/v1/tool-servers/other", json={"url": "https://tools.example/", "headers": key}
        )
        await say_yes(desk, "other")
        has = await desk.post("/api/v1/tool-servers/other/sign-in")
        assert (has.status_code, "has a key" in has.json()["detail"]) == (422, True)


async def add(desk: DeskUnderTest, name: str, url: str, **more: Any) -> None:
    added = await desk.put(f"/api/v1/tool-servers/{name}", json={"url": url, **more})
    assert added.status_code == 200, added.text
    await say_yes(desk, name)


async def say_yes(desk: DeskUnderTest, name: str) -> None:
    seen = (await desk.get(f"/api/v1/tool-servers/{name}")).json()
    await desk.post(f"/api/v1/tool-servers/{name}/trust", json={"hash": seen["hash"]})


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://127.0.0.1.evil.example",
        "http://evil@127.0.0.1",
        "javascript:alert(1)",
        "http://127.0.0.1:7860/elsewhere",
        "file:///etc/passwd",
        "http://[::1",
    ],
)
async def test_a_browser_is_sent_back_to_this_desk_alone(tmp_path: Path, origin: str) -> None:
    async with signed_desk(tmp_path) as (desk, made):
        refused = await desk.post(f"{URL}/sign-in", json={"origin": origin})
        assert refused.status_code == 422
        assert not made.clients


@pytest.mark.parametrize(
    ("origin", "back"),
    [
        ("http://localhost:7860", "http://localhost:7860"),
        ("http://[::1]:7860", "http://[::1]:7860"),
        ("https://desk.example", "https://desk.example/prefix"),
    ],
)
async def test_a_browser_comes_back_to_where_it_was(tmp_path: Path, origin: str, back: str) -> None:
    settings = {"public_url": "https://desk.example/prefix"}
    async with signed_desk(tmp_path, **settings) as (desk, _):
        page = (await desk.post(f"{URL}/sign-in", json={"origin": origin})).json()
        query = parse_qs(urlsplit(page["url"]).query)
        assert query["redirect_uri"] == [f"{back}/api/v1/tool-servers/oauth/callback"]


async def test_keys_that_cannot_be_read_are_a_problem_with_a_name(tmp_path: Path) -> None:
    async with signed_desk(tmp_path) as (desk, made):
        await sign_in(desk)
        access = next(iter(made.tokens))
    (tmp_path / "tool-keys.json").write_text(f'{{ "broken": "{access}"')
    async with run_desk(tmp_path, mcp_files=()) as desk:
        listed = await desk.get("/api/v1/tool-servers")
        assert listed.json()["problems"][0]["file"] == "tool-keys.json"
        assert access not in listed.text
        assert (await desk.post(f"{URL}/restart")).status_code == 507


async def test_a_page_elsewhere_cannot_begin_or_end_a_sign_in(tmp_path: Path) -> None:
    entries = {"mcpServers": {"far": {"url": "https://tools.example/mcp"}}}
    (tmp_path / "mcp.json").write_text(json.dumps(entries))
    settings = Settings(data_dir=tmp_path, embedded="off", mcp_files=())
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        serve(guarded(app, settings)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
    ):
        foreign = {"origin": "https://evil.example"}
        for act in ("sign-in", "sign-out"):
            crossed = await client.post(f"{URL}/{act}", headers=foreign)
            assert (crossed.status_code, crossed.json()["code"]) == (403, "cross_origin")
        back = "/api/v1/tool-servers/oauth/callback?code=x&state=y"
        bent = await client.get(back, headers={"host": "evil.example"})
        assert bent.status_code == 421
        strict = await client.get(back)
        assert strict.headers["content-security-policy"].startswith("default-src 'none'")
        assert strict.headers["referrer-policy"] == "no-referrer"


async def test_where_programs_cannot_register_a_client_of_the_entrys_own_signs_in(
    tmp_path: Path,
) -> None:
    back = "http://127.0.0.1:1/back"
    async with authority(registers=False) as made, guarded_tools(made) as url:
        made.clients["lm-desk"] = OAuthClientInformationFull(
            client_id="lm-desk",
            client_secret="of-the-entry",
            redirect_uris=[AnyUrl(back)],
            token_endpoint_auth_method="client_secret_post",
        )
        keys = KeyFile(tmp_path / "keys.json")
        tools = Box(tmp_path, keys=keys, signing=SigningIn(keys))
        tools.write({"far": {"url": url}})
        await tools.say_yes("far")
        with pytest.raises(SignInFailed, match="does not let programs such as LM Desk register"):
            await tools.sign_in("far", back)
        client = {"client_id": "lm-desk", "client_secret": "of-the-entry"}
        tools.write({"far": {"url": url, "oauth": client}})
        # It is another program there now.
        seen = await tools.server("far")
        assert seen.state == "changed"
        assert "of-the-entry" not in seen.model_dump_json()
        await tools.say_yes("far")
        try:
            assert (await complete(tools, back)).state == "ready"
            assert (await tools.call("far", "shout", {"text": "a"}, seconds=20)).text == "A"
            made.revoke()
            assert (await tools.call("far", "shout", {"text": "b"}, seconds=20)).text == "B"
            assert made.refreshes == 1
        finally:
            await tools.aclose()


async def test_a_page_that_stands_apart_from_the_api_takes_the_browser_back(
    tmp_path: Path,
) -> None:
    async with signed_desk(tmp_path) as (desk, _):
        client = DeskClient(str(desk.base_url))
        gui = FastAPI()
        gui.include_router(add_return(client))
        async with serve(gui) as url:
            page = (await desk.post(f"{URL}/sign-in", json={"origin": url})).json()
            back = await browse(page)
            assert str(back.url).startswith(f"{url}/api/v1/tool-servers/oauth/callback?")
            assert "You are signed in" in back.text
            assert back.headers["content-security-policy"].startswith("default-src 'none'")
        await client.aclose()
        assert (await desk.get(URL)).json()["state"] == "ready"


async def test_with_a_password_the_way_back_needs_it_and_survives_the_strict_cookie(
    tmp_path: Path,
) -> None:
    token = "a-password-of-mine"
    (tmp_path / "mcp.json").write_text("{}")
    settings = Settings(data_dir=tmp_path, embedded="off", mcp_files=(), token=token)  # type: ignore[arg-type]
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        serve(guarded(app, settings)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
    ):
        back = "/api/v1/tool-servers/oauth/callback?code=abc&state=def"
        assert (await client.get(back)).status_code == 401
        # A browser comes from elsewhere, so its strict cookie is missing at first.
        came = {"accept": "text/html", "sec-fetch-site": "cross-site"}
        bounced = await client.get(back, headers=came)
        assert 'content="0;url=/api/v1/tool-servers/oauth/callback?code=abc&amp;state=def"' in (
            bounced.text
        )
        let_in = {"authorization": f"Bearer {token}", "accept": "text/html"}
        there = await client.get(back, headers=let_in)
        assert (there.status_code, "is over" in there.text) == (404, True)


async def test_a_key_in_the_headers_that_is_wrong_is_not_about_signing_in(tmp_path: Path) -> None:
    async with authority() as made, guarded_tools(made) as url:
        tools = Box(tmp_path)
        tools.write({"far": {"url": url, "headers": {"Authorization": "Bearer wrong"}}})
        await tools.say_yes("far")
        with pytest.raises(ToolServerFailed, match="wants a key, or a better one") as error:
            await tools.tools(["far"])
        assert not isinstance(error.value, ToolServerNeedsSignIn)
        await tools.aclose()
