"""Remote tool servers: both eras over HTTP, and the addresses and redirects that are refused."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from api.mcp_server.calls import DeskCalls
from api.mcp_server.tools import build_server
from core.errors import ToolServerFailed, ToolServerNotTrusted, ToolTimeout
from infrastructure.tools.addresses import address_problem, url_problem
from infrastructure.tools.remote import remote_client
from tests.sockets import Receive, Send, free_port, http_json, serve, until
from tests.tool_boxes import Box, box

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def official_server() -> AsyncGenerator[str]:
    """The SDK's own server, which speaks the newer era."""
    server = MCPServer("official", version="1")

    @server.tool()
    async def shout(text: str) -> str:
        """Says it louder."""
        return text.upper()

    async with over_http(server) as url:
        yield url


@asynccontextmanager
async def over_http(server: MCPServer[Any]) -> AsyncGenerator[str]:
    """Its address."""
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(transport_security=security)
    async with server.session_manager.run(), serve(app) as url:
        yield f"{url}/mcp"


class OlderServer:
    """The SDK's own server as one that speaks only the older era; it writes down what it is asked."""

    def __init__(self, *, deaf: bool = False, stays: bool = False) -> None:
        """`deaf`: it never answers a cancel. `stays`: nor the end of its session."""
        self.asked: list[str] = []
        self._deaf = deaf
        self._stays = stays
        self.over = asyncio.Event()
        self.server = server = MCPServer("older", version="1")

        @server.tool()
        async def shout(text: str) -> str:
            """Says it louder."""
            return text.upper()

        @server.tool()
        async def wait() -> str:
            """Takes its time."""
            await self.over.wait()
            return "over"

        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self._app = server.streamable_http_app(transport_security=security)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        message = await receive() if scope["method"] == "POST" else None
        method = str(json.loads(message["body"]).get("method")) if message else scope["method"]
        self.asked.append(method)
        if method == "server/discover":
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        if (self._deaf and method == "notifications/cancelled") or (
            self._stays and method == "DELETE"
        ):
            await self.over.wait()
        unread = [message] if message else []

        async def again() -> MutableMapping[str, Any]:
            return unread.pop() if unread else await receive()

        await self._app(scope, again, send)


@asynccontextmanager
async def older_server(**how: bool) -> AsyncGenerator[tuple[OlderServer, str]]:
    """It and its address."""
    older = OlderServer(**how)
    async with older.server.session_manager.run(), serve(older) as url:
        try:
            yield older, f"{url}/mcp"
        finally:
            older.over.set()


class Recorder:
    """A server that writes down who came, and answers all the same."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.asked: list[dict[str, str]] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        self.asked.append({k.decode(): v.decode() for k, v in scope["headers"]})
        headers = [(k.encode(), v.encode()) for k, v in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def test_a_server_of_the_newer_era_is_called_over_http(tmp_path: Path) -> None:
    async with official_server() as url, box(tmp_path, {"remote": {"url": url}}) as tools:
        result = await tools.call("remote", "shout", {"text": "hello"}, seconds=20)
        seen = await tools.server("remote")

    assert result.text == "HELLO"
    assert (seen.state, seen.protocol, seen.command) == ("ready", "2026-07-28", url)


async def test_a_server_is_told_that_its_session_is_over(tmp_path: Path) -> None:
    async with older_server() as (older, url), box(tmp_path, {"remote": {"url": url}}) as tools:
        said = await tools.call("remote", "shout", {"text": "hello"}, seconds=20)
        assert said.text == "HELLO"
        assert (await tools.server("remote")).protocol == "2025-11-25"
        await tools.restart("remote")
        assert older.asked.count("DELETE") == 1
        await tools.enable("remote", False)
        assert older.asked.count("DELETE") == 2


async def test_the_end_of_a_session_is_not_waited_for_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrastructure.tools.session.CLOSE_SECONDS", 0.1)
    async with older_server(stays=True) as (older, url):
        async with box(tmp_path, {"remote": {"url": url}}) as tools:
            waiting = asyncio.create_task(tools.call("remote", "wait", {}, seconds=60))
            await until(lambda: "tools/call" in older.asked)
            off = await asyncio.wait_for(tools.enable("remote", False), 20)
            assert off.state == "off"
            with pytest.raises(ToolServerFailed, match="It was stopped"):
                await waiting
        assert older.asked[-1] == "DELETE"


async def test_a_server_that_takes_no_cancel_keeps_no_call_waiting(tmp_path: Path) -> None:
    async with (
        older_server(deaf=True) as (older, url),
        box(tmp_path, {"remote": {"url": url}}) as tools,
    ):
        await tools.tools(["remote"])
        for _ in range(2):
            with pytest.raises(ToolTimeout):
                await tools.call("remote", "wait", {}, seconds=0.1)
            said = await tools.call("remote", "shout", {"text": "still"}, seconds=20)
            assert said.text == "STILL"
        assert older.asked.count("notifications/cancelled") == 2
        assert (await tools.server("remote")).state == "ready"


async def test_lm_desk_is_known_by_its_name_whatever_its_address_is(tmp_path: Path) -> None:
    async with (
        httpx.AsyncClient() as nobody,
        over_http(build_server(DeskCalls(nobody))) as url,
        box(tmp_path, {"desk": {"url": url}}) as tools,
    ):
        with pytest.raises(ToolServerFailed, match="it is LM Desk itself") as refused:
            await tools.tools(["desk"])
        seen = await tools.server("desk")
    assert (seen.state, seen.message) == ("failed", refused.value.message)
    assert "agents have its models already" in seen.hint


async def test_a_server_that_was_away_is_reached_again_by_the_next_call(tmp_path: Path) -> None:
    port = free_port()
    entry = {"url": f"http://127.0.0.1:{port}/mcp"}
    async with box(tmp_path, {"remote": entry}) as tools:
        with pytest.raises(ToolServerFailed, match="remote did not start"):
            await tools.tools(["remote"])
        assert (await tools.server("remote")).state == "failed"


async def test_no_redirect_to_another_place_is_followed_and_no_secret_goes_there(
    tmp_path: Path,
) -> None:
    elsewhere = Recorder(200, {})
    async with serve(elsewhere) as evil:
        here = Recorder(307, {"location": f"{evil}/mcp"})
        async with serve(here) as url:
            entry = {"url": f"{url}/mcp", "headers": {"Authorization": "Bearer secret"}}
            async with box(tmp_path, {"remote": entry}) as tools:
                with pytest.raises(ToolServerFailed, match="edirect"):
                    await tools.tools(["remote"])
                shown = (await tools.server("remote")).model_dump_json()

    assert here.asked[0]["authorization"] == "Bearer secret"
    assert elsewhere.asked == []
    assert "Bearer" not in shown


async def test_a_name_is_looked_up_once_and_only_what_was_looked_at_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = ["169.254.169.254"]
    asked = []

    def getaddrinfo(host: Any, port: Any, *more: Any, **options: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (addresses[0], port))]

    reached = Recorder(500, {})
    async with serve(reached) as url:
        port = url.rpartition(":")[2]
        entry = {"url": f"https://tools.example:{port}/mcp"}
        async with box(tmp_path, {"remote": entry}) as tools:
            monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
            # The loop of uvloop does not ask the socket module.
            monkeypatch.setattr("anyio.getaddrinfo", _as_coroutine(getaddrinfo))
            for address in ("169.254.169.254", "127.0.0.1", "10.0.0.1", "::ffff:169.254.169.254"):
                addresses[0] = address
                with pytest.raises(ToolServerFailed, match=r"tools\.example"):
                    await tools.tools(["remote"])

    assert set(asked) == {"tools.example"}
    assert reached.asked == []


def _as_coroutine(function: Any) -> Any:
    async def asked(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return asked


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://0.0.0.0:80/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://224.0.0.1/",
        "file:///etc/passwd",
        "ftp://tools.example/",
        "https://user:password@tools.example/mcp",
        "https:///nothing",
        "https://tools.example:99999/",
        "https://tools.example/a b",
    ],
)
def test_some_addresses_are_refused_whatever_the_entry_allows(url: str) -> None:
    assert url_problem(url, allow_private=True)
    assert url_problem(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.5/mcp",
        "https://192.168.1.9/",
        "http://tools.example/mcp",
        "http://[fd12::1]/",
    ],
)
def test_private_and_plain_addresses_need_a_word_for_it(url: str) -> None:
    assert "allow_private" in url_problem(url, allow_private=False)
    assert url_problem(url, allow_private=True) == ""


@pytest.mark.parametrize(
    "url",
    [
        "https://tools.example/mcp",
        "http://localhost:3000/mcp",
        "http://127.0.0.1/",
        "http://[::1]/",
    ],
)
def test_servers_elsewhere_and_on_this_machine_are_fine(url: str) -> None:
    assert url_problem(url, allow_private=False) == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.1.1", "100.64.0.1", "192.168.0.1"])
def test_a_strangers_name_may_not_lead_inside(address: str) -> None:
    assert address_problem(ip_address(address), "tools.example", allow_private=False)


async def test_an_address_that_gets_other_headers_is_asked_about_again(tmp_path: Path) -> None:
    tools = Box(tmp_path)
    entry = {"url": "https://tools.example/mcp", "headers": {"Authorization": "Bearer a"}}
    tools.write({"remote": entry})
    await tools.say_yes("remote")
    tools.write({"remote": {**entry, "headers": {"Authorization": "Bearer b"}}})
    assert (await tools.server("remote")).state == "idle"
    tools.write({"remote": {**entry, "headers": {"Authorization": "Bearer b", "X-Also": "c"}}})
    assert (await tools.server("remote")).state == "changed"
    tools.write({"remote": {**entry, "url": "https://evil.example/mcp"}})
    with pytest.raises(ToolServerNotTrusted, match="The address of the tool server remote"):
        await tools.tools(["remote"])
    assert "Bearer" not in json.dumps((await tools.list()).model_dump(mode="json"))


@pytest.mark.parametrize("steps", range(1, 7))
async def test_every_connection_is_closed_though_the_closing_is_cancelled(steps: int) -> None:
    over = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal over
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http_json({}))
        await reader.read()
        over += 1
        writer.close()

    servers = [await asyncio.start_server(connected, "127.0.0.1", 0) for _ in range(2)]
    client = remote_client({}, allow_private=True)
    for server in servers:
        await client.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    closing = asyncio.create_task(client.aclose())
    for _ in range(steps):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing})
    await until(lambda: over == len(servers))
    for server in servers:
        server.close()
