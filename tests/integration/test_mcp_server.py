"""LM Desk as an MCP server, asked by the official client in both of its modes."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

from api.data_folder import claimed
from api.doors import with_doors
from api.main import create_app
from api.security import guarded
from api.settings import Settings
from tests.desk import DeskUnderTest, run_desk
from tests.servers import ScriptedLMStudio, ScriptedModel, serve
from tests.sockets import free_port, until

pytestmark = pytest.mark.anyio

NAMES = {
    "list_models",
    "health_check",
    "get_current_model",
    "chat_completion",
    "load_model",
    "unload_model",
    "autonomous_with_mcp",
    "autonomous_with_multiple_mcps",
    "autonomous_discover_and_execute",
    "get_run",
    "cancel_run",
}
QWEN = "lmstudio:qwen/qwen3-4b"


@asynccontextmanager
async def desk_with_studio(folder: Path, **facts: Any) -> AsyncGenerator[tuple[DeskUnderTest, Any]]:
    models = [
        ScriptedModel("qwen/qwen3-4b", instances={"qwen/qwen3-4b": 8192}),
        ScriptedModel("phi-4"),
    ]
    studio = ScriptedLMStudio(models=models, **{"tokens": 5, **facts})
    async with serve(studio) as url, run_desk(folder, lmstudio_url=url) as desk:
        yield desk, studio


@asynccontextmanager
async def client_of(
    desk: DeskUnderTest, mode: Literal["auto", "legacy"] = "auto"
) -> AsyncGenerator[Any]:
    from mcp import Client

    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    async with Client(f"{desk.base_url}/mcp", mode=mode) as client:
        yield client


def told(result: Any) -> Any:
    assert not result.is_error, result.content
    content = result.structured_content
    return content["result"] if set(content) == {"result"} else content


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_lists_and_calls_in_both_modes(
    tmp_path: Path, mode: Literal["auto", "legacy"]
) -> None:
    async with desk_with_studio(tmp_path) as (desk, _), client_of(desk, mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == NAMES
        assert all(tool.description and tool.annotations for tool in tools.values())
        arguments = tools["autonomous_with_mcp"].input_schema
        assert {"mcp_name", "task", "max_rounds", "max_tokens", "model", "wait_s"} == set(
            arguments["properties"]
        )
        assert arguments["required"] == ["mcp_name", "task"]

        models = told(await client.call_tool("list_models", {}))
        assert [(model["id"], model["loaded"]) for model in models] == [
            (QWEN, True),
            ("lmstudio:phi-4", False),
        ]
        assert told(await client.call_tool("health_check", {}))["healthy"] is True
        current = told(await client.call_tool("get_current_model", {}))
        assert current["model"]["id"] == QWEN


async def test_a_question_is_answered_by_the_model_asked_and_it_says_so(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, studio), client_of(desk) as client:
        asked = {"prompt": "Count", "model": QWEN, "temperature": 0.1, "system_prompt": "Be brief."}
        answer = told(await client.call_tool("chat_completion", asked))

        assert answer["content"].split() == ["0", "1", "2", "3", "4"]
        assert answer["model"] == QWEN
        body = studio.requests("/v1/chat/completions")[-1].body
        assert (body["temperature"], body["messages"][0]["role"]) == (0.1, "system")


async def test_models_are_loaded_with_progress_and_unloaded(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, studio), client_of(desk) as client:
        seen: list[str | None] = []

        async def progress(share: float, total: float | None, message: str | None) -> None:
            seen.append(message)

        studio.load_may_go.clear()
        loading = asyncio.create_task(
            client.call_tool("load_model", {"model": "phi-4"}, progress_callback=progress)
        )
        await until(lambda: seen)
        studio.load_may_go.set()
        assert told(await loading)["status"] == "done"
        assert studio.models["phi-4"].instances

        assert told(await client.call_tool("unload_model", {"model": "phi-4"}))["success"] is True
        assert not studio.models["phi-4"].instances


async def test_a_load_that_takes_longer_than_the_wait_goes_on_by_itself(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, studio), client_of(desk) as client:
        studio.load_may_go.clear()
        asked = {"model": "phi-4", "wait_s": 0.3}
        assert told(await client.call_tool("load_model", asked))["status"] == "running"
        studio.load_may_go.set()
        await until(lambda: studio.models["phi-4"].instances)


async def test_what_cannot_be_is_said_in_a_sentence_with_what_there_is(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, _), client_of(desk) as client:
        for tool, arguments, words in (
            ("chat_completion", {"prompt": "Hi", "model": "qwen4"}, "qwen/qwen3-4b"),
            ("load_model", {"model": "nobody"}, "lmstudio:phi-4"),
            ("unload_model", {"model": "nobody"}, "lmstudio:phi-4"),
            ("chat_completion", {"prompt": "Hi", "model": "nobody"}, "lmstudio:phi-4"),
        ):
            result = await client.call_tool(tool, arguments)
            assert result.is_error, tool
            assert words in result.content[0].text, tool
            assert "Traceback" not in result.content[0].text


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        "allowed",
        "a" * 32 + "/stop",
        "../settings",
        "../jobs",
        "x\ny",
        "../tool-servers/x/trust?",
    ],
)
async def test_what_is_no_run_id_leads_nowhere_else(tmp_path: Path, run_id: str) -> None:
    """It becomes part of a path: with ../ a model could have reached the rest of the API."""
    async with desk_with_studio(tmp_path) as (desk, _), client_of(desk) as client:
        for tool in ("get_run", "cancel_run"):
            result = await client.call_tool(tool, {"run_id": run_id})
            assert result.is_error
            assert "is no run. Use the run_id" in result.content[0].text


async def test_a_client_that_gives_up_ends_what_was_done_for_it(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, studio), client_of(desk) as client:
        studio.load_may_go.clear()
        asked = {"prompt": "Count", "model": "phi-4"}
        call = asyncio.create_task(client.call_tool("chat_completion", asked))
        await until(lambda: studio.open == 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await until(lambda: studio.open == 0)
        studio.load_may_go.set()
        assert not studio.models["phi-4"].instances


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_load_given_up_ends_unless_somebody_else_began_it(
    tmp_path: Path, mode: Literal["auto", "legacy"]
) -> None:
    async with desk_with_studio(tmp_path) as (desk, studio), client_of(desk, mode) as client:
        studio.load_may_go.clear()
        wanted = {"model_id": "phi-4"}
        theirs = await desk.post("/api/v1/models/load", json=wanted, params={"wait": "false"})
        job = f"/api/v1/jobs/{theirs.json()['id']}"
        await given_up(client, "load_model", {"model": "phi-4"}, lambda: studio.open == 1)
        assert (await desk.get(job)).json()["state"] == "running"
        await desk.post(f"{job}/stop")
        await until(lambda: studio.open == 0)

        await given_up(client, "load_model", {"model": "phi-4"}, lambda: studio.open == 1)
        await until(lambda: studio.open == 0)
        studio.load_may_go.set()
        loads = (await desk.get("/api/v1/jobs", params={"kind": "load"})).json()
        assert [each["state"] for each in loads] == ["stopped", "stopped"]
        assert not studio.models["phi-4"].instances


async def given_up(
    client: Any, tool: str, arguments: dict[str, Any], when: Callable[[], bool]
) -> None:
    """Call it and lose patience: as soon as this is so, and the call was heard of."""
    heard = asyncio.Event()

    async def progress(share: float, total: float | None, message: str | None) -> None:
        heard.set()

    call = asyncio.create_task(client.call_tool(tool, arguments, progress_callback=progress))
    async with asyncio.timeout(60):
        await heard.wait()
    await until(when)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def test_an_answer_in_pieces_that_nobody_asked_for_is_told_as_that(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, studio), client_of(desk) as client:
        asked = {"prompt": "Count", "model": QWEN}
        studio.answers["POST", "/v1/chat/completions"] = (200, "data: {}")
        strange = await client.call_tool("chat_completion", asked)
        empty = await client.call_tool("chat_completion", {**asked, "prompt": " \n"})

    assert strange.is_error
    assert QWEN in strange.content[0].text
    assert "not a whole answer" in strange.content[0].text
    assert empty.is_error
    assert "prompt is empty" in empty.content[0].text


async def test_a_page_of_another_origin_or_name_cannot_use_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, embedded="off")

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        pytest.fail("it came through")

    async with serve(guarded(inner, settings)) as url, DeskUnderTest(base_url=url) as outside:
        foreign = await outside.post("/mcp", headers={"origin": "https://evil.example"}, json={})
        renamed = await outside.post("/mcp", headers={"host": "evil.example"}, json={})

    assert (foreign.status_code, renamed.status_code) == (403, 421)


@asynccontextmanager
async def started(folder: Path, *arguments: str) -> AsyncGenerator[Any]:
    """`lmdesk mcp` as a program starts it."""
    from mcp import Client, StdioServerParameters

    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    environment = {k: v for k, v in os.environ.items() if not k.upper().startswith("LMDESK_")}
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "app", "mcp", *arguments],
        env=environment | {"LMDESK_DATA_DIR": str(folder / "data"), "LMDESK_EMBEDDED": "off"},
        cwd=folder,
    )
    async with Client(command) as client:
        yield client


async def test_programs_that_start_it_without_a_desk_share_one_that_outlives_each(
    tmp_path: Path,
) -> None:
    """As Claude and Cursor do, with nothing but this command in their files."""
    studio = ScriptedLMStudio(tokens=3)
    port = free_port()
    here, may_go = asyncio.Event(), asyncio.Event()

    async def first(*arguments: str) -> Any:
        async with started(tmp_path, *arguments) as client:
            models = told(await client.call_tool("list_models", {}))
            here.set()
            await may_go.wait()
        return models

    def ours() -> int:
        return sum("mcp" in each.cmdline() for each in psutil.Process().children())

    async with serve(studio) as url:
        arguments = ("--lmstudio-url", url, "--port", str(port))
        visit = asyncio.create_task(first(*arguments))
        await asyncio.wait([visit, asyncio.create_task(here.wait())], return_when="FIRST_COMPLETED")
        async with started(tmp_path, *arguments) as client:
            answer = told(await client.call_tool("chat_completion", {"prompt": "Count"}))
            # A person can look on, and answer what a run asks.
            async with DeskUnderTest(base_url=f"http://127.0.0.1:{port}") as desk:
                page = await desk.get("/", headers={"accept": "text/html"})
            both = ours()
            may_go.set()
            models = await visit
            left = ours()
            again = told(await client.call_tool("list_models", {}))

    assert QWEN in {model["id"] for model in models}
    assert answer["content"].split() == ["0", "1", "2"]
    assert page.status_code == 200
    assert QWEN in {model["id"] for model in again}
    assert (both, left, ours()) == (2, 1, 0)


def test_a_signal_ends_it_though_its_input_stays_open(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.upper().startswith("LMDESK_")}
    held = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "app", "mcp", "--port", str(free_port())]
    own = {"LMDESK_DATA_DIR": str(tmp_path / "data"), "LMDESK_EMBEDDED": "off"}
    with subprocess.Popen(command, env=environment | own, cwd=tmp_path, **held) as program:
        assert program.stdin
        assert program.stdout
        program.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        program.stdin.flush()
        assert b'"id":1' in program.stdout.readline().replace(b" ", b"")
        program.terminate()
        assert program.wait(30) == 130


async def test_a_data_folder_that_somebody_else_uses_is_said_to_the_one_who_asks(
    tmp_path: Path,
) -> None:
    with claimed(tmp_path / "data"):
        async with started(tmp_path, "--port", str(free_port())) as client:
            result = await client.call_tool("list_models", {})
    assert result.is_error
    assert "Another LM Desk is using the data folder" in result.content[0].text


async def test_a_program_that_starts_it_sees_the_desk_that_runs(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        up = stack.enter_async_context
        settings = Settings(
            data_dir=tmp_path / "desk",
            embedded="off",
            lmstudio_url=await up(serve(ScriptedLMStudio(tokens=3))),
        )
        app = create_app(settings)
        await up(app.router.lifespan_context(app))
        url = await up(serve(guarded(with_doors(app, app), settings)))
        client = await up(started(tmp_path, "--port", url.rpartition(":")[2]))
        # Its own settings know no LM Studio at this address: the desk's do.
        models = told(await client.call_tool("list_models", {}))

    assert QWEN in {model["id"] for model in models}
    assert not (tmp_path / "data").exists()
