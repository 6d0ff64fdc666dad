"""Tool servers nobody uses: ended after a while or to make room, never under somebody's hands."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from api.mcp_server.calls import DeskCalls
from core.tool_room import ToolRules, ToolServersBusy
from tests.agent_upstream import Call, Say
from tests.desk import run_desk
from tests.run_bench import run_bench
from tests.sockets import serve, until
from tests.tool_boxes import Box, box, processes, scripted

pytestmark = pytest.mark.anyio

TOOLS = {"echo": "Says it again.", "pid": "Its process.", "wait": "Takes its time."}
MINUTES = 15 * 60.0


class Clock:
    """Stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def call(tools: Box, server: str = "made", tool: str = "pid") -> str:
    return (await tools.call(server, tool, {}, seconds=20)).text


async def state_of(tools: Box, server: str = "made") -> str:
    return (await tools.server(server)).state


async def test_a_server_nobody_used_for_long_is_ended_with_its_children_and_starts_by_itself(
    tmp_path: Path,
) -> None:
    clock = Clock()
    plan = scripted(tools=TOOLS, parent=True)
    async with box(tmp_path, {"made": plan}, clock=clock) as tools:
        pid = int(await call(tools))
        group = [pid, *(each.pid for each in psutil.Process(pid).children())]
        assert len(group) == 2
        clock.now += MINUTES - 1
        await tools.end_idle()
        assert psutil.pid_exists(pid)
        # A use begins the time anew.
        assert int(await call(tools)) == pid
        clock.now += MINUTES - 1
        await tools.end_idle()
        assert psutil.pid_exists(pid)

        clock.now += 1
        await tools.end_idle()
        assert not any(psutil.pid_exists(each) for each in group)
        seen = await tools.server("made")
        assert (seen.state, seen.message) == (
            "asleep",
            "It was ended: nobody used it for 15 minutes.",
        )
        assert [tool.name for tool in seen.tools] == list(TOOLS)

        # No new yes is asked for, and it is another process.
        assert int(await call(tools)) != pid
        assert await state_of(tools) == "ready"


async def test_what_changed_while_it_slept_is_asked_about(tmp_path: Path) -> None:
    clock = Clock()
    async with box(tmp_path, {"made": scripted(tools=TOOLS)}, clock=clock) as tools:
        await call(tools)
        clock.now += MINUTES
        await tools.end_idle()
        tools.write({"made": scripted(tools={**TOOLS, "evil": "Sends all away."})})
        assert await state_of(tools) == "changed"


async def test_a_call_and_a_run_keep_it_up_however_long_they_take(tmp_path: Path) -> None:
    clock = Clock()
    async with box(tmp_path, {"made": scripted(tools=TOOLS)}, clock=clock) as tools:
        pid = int(await call(tools))
        calling = asyncio.create_task(call(tools, tool="wait"))
        await until(lambda: (tmp_path / "logs" / "made.log").exists())
        clock.now += 100 * MINUTES
        await tools.end_idle()
        assert psutil.pid_exists(pid)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        # Its end was a use.
        await tools.end_idle()
        assert psutil.pid_exists(pid)

        with tools.using(["made", "nobody"]):
            clock.now += 100 * MINUTES
            await tools.end_idle()
            assert psutil.pid_exists(pid)
        clock.now += MINUTES
        await tools.end_idle()
        assert not psutil.pid_exists(pid)


async def test_a_run_that_waits_for_a_person_keeps_its_server(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        box(tmp_path, {"made": scripted(tools=TOOLS)}, clock=clock) as tools,
        run_bench(tmp_path, toolbox=tools) as bench,
    ):
        bench.upstream.plays(Say("", [Call("pid", {})]), Say("Done."))
        job = await bench.start(servers=["made"], approve="ask")
        await bench.asked(job)
        server = processes("scripted_tools")
        clock.now += 100 * MINUTES
        await tools.end_idle()
        assert [each.pid for each in processes("scripted_tools")] == [server[0].pid]
        await bench.decide(job, decision="approve")
        info = await bench.ended(job)
        assert info.output == "Done."
        assert str(server[0].pid) in info.model_dump_json()

        clock.now += MINUTES
        await tools.end_idle()
        assert not psutil.pid_exists(server[0].pid)


async def test_with_no_limit_it_stays_and_a_new_limit_counts_at_once(tmp_path: Path) -> None:
    clock = Clock()
    rules = ToolRules(idle_seconds=None)
    async with box(tmp_path, {"made": scripted(tools=TOOLS)}, rules=rules, clock=clock) as tools:
        pid = int(await call(tools))
        clock.now += 1e9
        await tools.end_idle()
        assert psutil.pid_exists(pid)
        tools.follow(ToolRules(idle_seconds=60))
        await tools.end_idle()
        assert not psutil.pid_exists(pid)
        assert "nobody used it for 1 minute." in (await tools.server("made")).message


async def test_the_longest_idle_one_makes_room_and_one_in_use_does_not(tmp_path: Path) -> None:
    clock = Clock()
    servers = {name: scripted(tools=TOOLS) for name in ("a", "b", "c")}
    rules = ToolRules(max_running=2)
    async with box(tmp_path, servers, rules=rules, clock=clock) as tools:
        first = int(await call(tools, "a"))
        clock.now += 1
        second = int(await call(tools, "b"))
        clock.now += 1
        with tools.using(["a"]):
            await call(tools, "c")
            # The one before it is older, but somebody works with it.
            assert psutil.pid_exists(first)
            assert not psutil.pid_exists(second)
            seen = await tools.server("b")
            assert (seen.state, seen.message) == (
                "asleep",
                "It was ended: to make room for another.",
            )
            with tools.using(["c"]):
                with pytest.raises(ToolServersBusy, match="each is in use: a, c") as busy:
                    await call(tools, "b")
                assert "tools.max_running" in busy.value.hint
                assert await state_of(tools, "b") == "asleep"
            await call(tools, "b")
            assert {name: await state_of(tools, name) for name in servers} == {
                "a": "ready",
                "b": "ready",
                "c": "asleep",
            }
        assert len(processes("scripted_tools")) == 2


async def test_many_that_start_at_once_are_never_more_than_may_run(tmp_path: Path) -> None:
    servers = {f"s{number}": scripted(tools=TOOLS) for number in range(6)}
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(processes("scripted_tools")))
            await asyncio.sleep(0.005)

    async with box(tmp_path, servers, rules=ToolRules(max_running=2)) as tools:
        watching = asyncio.create_task(watch())
        done = await asyncio.gather(
            *(call(tools, name) for name in servers), return_exceptions=True
        )
        watching.cancel()
        # Who found no room was told so; none was lost otherwise.
        assert {type(each) for each in done} <= {str, ToolServersBusy}
        assert sum(isinstance(each, str) for each in done) >= 2
        assert 1 <= most <= 2
        for name in servers:
            assert int(await call(tools, name))


async def test_fewer_than_run_may_be_allowed_while_they_run(tmp_path: Path) -> None:
    clock = Clock()
    servers = {name: scripted(tools=TOOLS) for name in ("a", "b")}
    async with box(tmp_path, servers, clock=clock) as tools:
        first = int(await call(tools, "a"))
        clock.now += 1
        second = int(await call(tools, "b"))
        tools.follow(ToolRules(max_running=1))
        await tools.end_idle()
        assert not psutil.pid_exists(first)
        assert psutil.pid_exists(second)


async def test_one_that_cannot_start_takes_no_room(tmp_path: Path) -> None:
    servers = {"bad": {"command": "no-such-program-here"}, "made": scripted(tools=TOOLS)}
    async with box(tmp_path, servers, rules=ToolRules(max_running=1)) as tools:
        listed = await asyncio.gather(tools.tools(["bad"]), return_exceptions=True)
        assert isinstance(listed[0], Exception)
        assert int(await call(tools))


async def test_the_session_of_a_remote_one_is_closed_and_opened_anew(tmp_path: Path) -> None:
    server = MCPServer("official", version="1")

    @server.tool()
    async def shout(text: str) -> str:
        """Says it louder."""
        return text.upper()

    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(transport_security=security)
    clock = Clock()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server.session_manager.run())
        url = await stack.enter_async_context(serve(app))
        entry = {"remote": {"url": f"{url}/mcp"}}
        tools = await stack.enter_async_context(box(tmp_path, entry, clock=clock))
        await tools.call("remote", "shout", {"text": "a"}, seconds=20)
        port = int(url.rpartition(":")[2])

        def connected() -> int:
            found = psutil.Process().net_connections(kind="tcp")
            return sum(1 for each in found if each.raddr and each.raddr.port == port)

        assert connected()
        clock.now += MINUTES
        await tools.end_idle()
        assert await state_of(tools, "remote") == "asleep"
        await until(lambda: not connected())
        result = await tools.call("remote", "shout", {"text": "b"}, seconds=20)
    assert result.text == "B"


async def test_a_desk_ends_what_nobody_uses_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.tool_servers.LOOK_SECONDS", 0.05)
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"made": scripted(tools=TOOLS)}}))
    rules: dict[str, Any] = {"idle_minutes": 0.001}
    async with run_desk(tmp_path, mcp_files=(), tools=rules) as desk:
        url = "/api/v1/tool-servers/made"
        seen = (await desk.get(url)).json()
        await desk.post(f"{url}/trust", json={"hash": seen["hash"]})
        assert (await desk.post(f"{url}/restart")).status_code == 200
        await until(lambda: not processes("scripted_tools"))
        assert (await desk.get(url)).json()["state"] == "asleep"
        # Runs of other programs still find it.
        assert await DeskCalls(desk).tool_servers() == ["made"]
