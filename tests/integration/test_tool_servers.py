"""Tool servers no one here wrote, from npm and PyPI: listed, called, cancelled, killed, ended."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import ToolNotFound, ToolServerFailed, ToolTimeout
from core.tools import Tool, ToolResult
from tests.sockets import free_port, until
from tests.tool_boxes import box, npm_servers, processes, pypi_servers

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def npm(pytestconfig: pytest.Config) -> dict[str, str]:
    return npm_servers(Path(pytestconfig.cache.mkdir("mcp-servers-npm")))  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def pypi(pytestconfig: pytest.Config) -> dict[str, str]:
    return pypi_servers(Path(pytestconfig.cache.mkdir("mcp-servers-pypi")))  # type: ignore[union-attr]


async def test_seven_servers_of_others_list_their_tools_in_either_era(
    tmp_path: Path, npm: dict[str, str], pypi: dict[str, str]
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    servers = {
        name: {"command": command, "args": [str(shared)] if name == "filesystem" else []}
        for name, command in {**npm, **pypi}.items()
    }
    async with box(tmp_path, servers) as tools:
        found = await tools.tools(list(servers))
        seen = {server.name: server for server in (await tools.list()).servers}

        assert {tool.full_name for tool in found} >= {
            "filesystem.read_text_file",
            "memory.create_entities",
            "everything.echo",
            "sequential-thinking.sequentialthinking",
            "time.get_current_time",
            "git.git_status",
            "fetch.fetch",
        }
        assert {server.state for server in seen.values()} == {"ready"}
        assert {server.protocol for server in seen.values()} == {"2025-11-25", "2026-07-28"}
        for name, server in seen.items():
            own = [tool for tool in found if tool.server == name]
            assert server.tokens == sum(tool.tokens for tool in own) > 50
        by_name = {tool.full_name: tool for tool in found}
        assert by_name["filesystem.read_text_file"].read_only is True
        assert by_name["filesystem.write_file"].destructive is True
        assert by_name["fetch.fetch"].open_world is True

        now = await tools.call("time", "get_current_time", {"timezone": "UTC"}, seconds=30)
        assert json.loads(now.text)["timezone"] == "UTC"
        refused = await tools.call("fetch", "fetch", {"url": "http://127.0.0.1:1/"}, seconds=30)
        assert refused.is_error
        thought = await tools.call(
            "sequential-thinking",
            "sequentialthinking",
            {"thought": "a", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1},
            seconds=30,
        )
        assert not thought.is_error


async def test_files_are_read_and_written_inside_the_folder_alone(
    tmp_path: Path, npm: dict[str, str]
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "secret.txt").write_text("nobody")
    entry = {"command": npm["filesystem"], "args": [str(shared)]}
    async with box(tmp_path, {"files": entry}) as tools:
        note = shared / "note.txt"
        await tools.call("files", "write_file", {"path": str(note), "content": "hello"}, seconds=30)
        read = await tools.call("files", "read_text_file", {"path": str(note)}, seconds=30)
        outside = await tools.call(
            "files", "read_text_file", {"path": str(tmp_path / "secret.txt")}, seconds=30
        )

    assert note.read_text() == read.text == "hello"
    assert outside.is_error
    assert "nobody" not in outside.text


async def test_a_result_of_ten_megabytes_arrives_whole(tmp_path: Path, npm: dict[str, str]) -> None:
    big = tmp_path / "big.txt"
    big.write_text("0123456789abcde\n" * (10 * 1024 * 1024 // 16))
    entry = {"command": npm["filesystem"], "args": [str(tmp_path)]}
    async with box(tmp_path, {"files": entry}) as tools:
        read = await tools.call("files", "read_text_file", {"path": str(big)}, seconds=60)

    assert read.text == big.read_text()


async def test_malformed_arguments_are_an_answer_of_the_tool(
    tmp_path: Path, npm: dict[str, str], pypi: dict[str, str]
) -> None:
    servers = {
        "files": {"command": npm["filesystem"], "args": [str(tmp_path)]},
        "time": {"command": pypi["time"]},
    }
    async with box(tmp_path, servers) as tools:
        old, new = await asyncio.gather(
            tools.call("files", "read_text_file", {"path": 3}, seconds=30),
            tools.call("time", "convert_time", {"nonsense": []}, seconds=30),
        )

        assert old.is_error
        assert "path" in old.text
        assert new.is_error
        assert "source_timezone" in new.text
        with pytest.raises(ToolNotFound) as unknown:
            await tools.call("time", "get_curent_time", {}, seconds=30)
        assert "get_current_time" in unknown.value.hint


async def test_memory_is_one_server_for_all_and_starts_anew_after_a_stop(
    tmp_path: Path, npm: dict[str, str]
) -> None:
    env = {"MEMORY_FILE_PATH": str(tmp_path / "memory.jsonl")}
    async with box(tmp_path, {"memory": {"command": npm["memory"], "env": env}}) as tools:
        entities = [{"name": "Ada", "entityType": "person", "observations": ["counts"]}]
        await tools.call("memory", "create_entities", {"entities": entities}, seconds=30)
        await asyncio.gather(*(tools.tools(["memory"]) for _ in range(5)))
        assert len(processes("mcp-server-memory")) == 1
        await tools.restart("memory")
        graph = await tools.call("memory", "read_graph", {}, seconds=30)

    assert "Ada" in graph.text


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / "new.txt").write_text("new")
    return folder


async def test_git_shows_what_is_in_a_repository(
    tmp_path: Path, repository: Path, pypi: dict[str, str]
) -> None:
    async with box(tmp_path, {"git": {"command": pypi["git"]}}) as tools:
        status = await tools.call("git", "git_status", {"repo_path": str(repository)}, seconds=30)

    assert "new.txt" in status.text


async def test_everything_is_passed_on_images_progress_and_calls_side_by_side(
    tmp_path: Path, npm: dict[str, str]
) -> None:
    long = "trigger-long-running-operation"
    heard: list[tuple[float, float | None]] = []
    at_work: set[int] = set()
    together = 0

    async def worked(number: int) -> ToolResult:
        def progress(done: float, total: float | None, text: str) -> None:
            nonlocal together
            heard.append((done, total))
            at_work.add(number)
            together = max(together, len(at_work))

        arguments = {"duration": 1.5, "steps": 3}
        result = await tools.call("everything", long, arguments, seconds=30, on_progress=progress)
        at_work.discard(number)
        return result

    async with box(tmp_path, {"everything": {"command": npm["everything"]}}) as tools:
        await tools.tools(["everything"])
        results = await asyncio.gather(*(worked(number) for number in range(4)))
        picture = await tools.call("everything", "get-tiny-image", {}, seconds=30)
        sums = await tools.call("everything", "get-sum", {"a": 2, "b": 40}, seconds=30)

    assert not any(result.is_error for result in results)
    assert together > 1, "they were made one after the other"
    assert set(heard) == {(1.0, 3.0), (2.0, 3.0), (3.0, 3.0)}
    assert picture.images[0].media_type == "image/png"
    assert "42" in sums.text


async def test_a_cancelled_call_and_one_out_of_time_are_cancelled_at_the_server(
    tmp_path: Path, npm: dict[str, str]
) -> None:
    wire = tmp_path / "wire.log"
    script = f"tee -a '{wire}' | exec '{npm['everything']}'"
    arguments = {"duration": 60, "steps": 60}
    long = "trigger-long-running-operation"

    def cancelled() -> int:
        return wire.read_text().count("notifications/cancelled") if wire.exists() else 0

    async with box(tmp_path, {"everything": {"command": "sh", "args": ["-c", script]}}) as tools:
        await tools.tools(["everything"])
        begun = asyncio.Event()
        call = asyncio.create_task(
            tools.call(
                "everything", long, arguments, seconds=90, on_progress=lambda *_: begun.set()
            )
        )
        await asyncio.wait_for(begun.wait(), 30)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: cancelled() == 1)

        with pytest.raises(ToolTimeout, match=r"within 0\.5 seconds"):
            await tools.call("everything", long, arguments, seconds=0.5)
        await until(lambda: cancelled() == 2)

        # Its session lived on.
        assert (await tools.server("everything")).state == "ready"
        said = await tools.call("everything", "echo", {"message": "still here"}, seconds=30)
        assert "still here" in said.text


async def test_a_server_killed_in_a_call_says_so_and_the_next_call_starts_it_anew(
    tmp_path: Path, npm: dict[str, str]
) -> None:
    async with box(tmp_path, {"everything": {"command": npm["everything"]}}) as tools:
        await tools.tools(["everything"])
        begun = asyncio.Event()
        call = asyncio.create_task(
            tools.call(
                "everything",
                "trigger-long-running-operation",
                {"duration": 60, "steps": 60},
                seconds=90,
                on_progress=lambda *_: begun.set(),
            )
        )
        await asyncio.wait_for(begun.wait(), 30)
        processes("mcp-server-everything")[0].send_signal(signal.SIGKILL)

        with pytest.raises(ToolServerFailed, match="ended while it worked on trigger-long"):
            await asyncio.wait_for(call, 30)
        assert (await tools.server("everything")).state == "failed"
        said = await tools.call("everything", "echo", {"message": "again"}, seconds=30)

    assert "again" in said.text


async def test_a_server_gets_nothing_of_our_environment_that_is_not_listed(
    tmp_path: Path, npm: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_API_TOKEN", "a-secret-of-ours")
    monkeypatch.setenv("LMDESK_TOKEN", "the-password-of-the-desk")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("LANG", "C.UTF-8")
    command = npm["everything"]
    entry = {"command": command, "env": {"OWN": "of its own", "X": "${LMDESK_TOKEN}"}}
    async with box(tmp_path, {"everything": entry}) as tools:
        first = await tools.call("everything", "get-env", {}, seconds=30)
        _inherit(tmp_path, "everything", ["HTTPS_PROXY", "LMDESK_TOKEN"])
        assert (await tools.server("everything")).state == "changed"
        await tools.say_yes("everything")
        second = await tools.call("everything", "get-env", {}, seconds=30)

    allowed = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG"}
    assert set(json.loads(first.text)) - allowed == {"OWN", "X"}
    assert "password" not in first.text + second.text
    assert set(json.loads(second.text)) - allowed == {"OWN", "X", "HTTPS_PROXY"}


def _inherit(folder: Path, server: str, names: list[str]) -> None:
    file = folder / "tool-servers.json"
    whole = json.loads(file.read_text())
    whole["servers"][server]["inherit_env"] = names
    file.write_text(json.dumps(whole))


class HttpServer:
    """The npm server "everything" over HTTP, on a port of its own; it can be killed."""

    def __init__(self, command: str) -> None:
        self.port = free_port()
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = process = subprocess.Popen(
            [self._command, "streamableHttp"],
            env={"PATH": os.environ["PATH"], "PORT": str(self.port)},
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        while b"listening" not in (line := process.stderr.readline()):
            assert line, "the server ended"

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stderr is not None:
            process.kill()
            process.wait()
            process.stderr.close()


@pytest.fixture
def http_server(npm: dict[str, str]) -> Iterator[HttpServer]:
    server = HttpServer(npm["everything"])
    try:
        server.start()
        yield server
    finally:
        server.kill()


async def test_a_server_over_http_is_listed_called_cancelled_and_killed(
    tmp_path: Path, http_server: HttpServer
) -> None:
    url = f"http://127.0.0.1:{http_server.port}/mcp"
    async with box(tmp_path, {"remote": {"url": url}}) as tools:
        found = await tools.tools(["remote"])
        begun = asyncio.Event()
        call = asyncio.create_task(
            tools.call(
                "remote",
                "trigger-long-running-operation",
                {"duration": 60, "steps": 60},
                seconds=90,
                on_progress=lambda *_: begun.set(),
            )
        )
        await asyncio.wait_for(begun.wait(), 30)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        said = await tools.call("remote", "echo", {"message": "over http"}, seconds=30)
        seen = await tools.server("remote")

        begun.clear()
        call = asyncio.create_task(
            tools.call(
                "remote",
                "trigger-long-running-operation",
                {"duration": 60, "steps": 60},
                seconds=90,
                on_progress=lambda *_: begun.set(),
            )
        )
        await asyncio.wait_for(begun.wait(), 30)
        http_server.kill()
        with pytest.raises(ToolServerFailed, match="ended while it worked on trigger-long"):
            await asyncio.wait_for(call, 30)
        with pytest.raises(ToolServerFailed, match="Nothing answers at"):
            await tools.call("remote", "echo", {"message": "x"}, seconds=30)
        http_server.start()
        again = await tools.call("remote", "echo", {"message": "back"}, seconds=30)
        # It forgets its sessions with each start.
        http_server.kill()
        http_server.start()
        with contextlib.suppress(ToolServerFailed):
            await tools.call("remote", "echo", {"message": "x"}, seconds=30)
        later = await tools.call("remote", "echo", {"message": "and again"}, seconds=30)
        http_server.kill()

    assert "back" in again.text
    assert "and again" in later.text
    assert any(isinstance(tool, Tool) and tool.name == "echo" for tool in found)
    assert "over http" in said.text
    assert (seen.state, seen.protocol) == ("ready", "2025-11-25")
