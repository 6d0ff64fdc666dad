"""Our MCP server with the TypeScript SDK that most hosts embed, the inspector, and the suite of scenarios."""

import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from api.doors import with_doors
from api.main import create_app
from api.security import guarded
from api.settings import Settings
from tests import node
from tests.servers import ScriptedLMStudio, ScriptedModel, serve
from tests.sockets import json_reply, until

pytestmark = pytest.mark.anyio

SDK = "@modelcontextprotocol/sdk@1.32.2"
INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"
CONFORMANCE = "@modelcontextprotocol/conformance@0.1.16"
SCRIPT = Path(__file__).with_name("mcp_client.mjs")
SCENARIOS = (
    "server-initialize",
    "ping",
    "tools-list",
    "dns-rebinding-protection",
    "server-sse-multiple-streams",
)


class Running(NamedTuple):
    """A desk as it is served, and the LM Studio behind it."""

    url: str
    studio: ScriptedLMStudio
    studio_url: str


@asynccontextmanager
async def running_desk(folder: Path) -> AsyncGenerator[Running]:
    models = [ScriptedModel("qwen/qwen3-4b", instances={"qwen/qwen3-4b": 8192})]
    models += [ScriptedModel("phi-4"), ScriptedModel("slow")]
    studio = ScriptedLMStudio(models=models, tokens=3)
    async with AsyncExitStack() as stack:
        studio_url = await stack.enter_async_context(serve(studio))
        settings = Settings(data_dir=folder / "data", embedded="off", lmstudio_url=studio_url)
        app = create_app(settings)
        await stack.enter_async_context(app.router.lifespan_context(app))
        door = guarded(with_doors(app, app), settings)
        yield Running(await stack.enter_async_context(serve(door)), studio, studio_url)


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = node.install(tmp_path_factory.mktemp("mcp_sdk"), SDK)
    shutil.copy(SCRIPT, folder)
    return folder / SCRIPT.name


@pytest.mark.parametrize("how", ["http", "stdio"])
async def test_the_typescript_client_lists_calls_hears_progress_and_aborts(
    how: str, sdk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_desk(tmp_path) as desk, AsyncExitStack() as stack:
        desk.studio.endless = {"slow"}  # what asks for it waits until it is given up

        async def heard(scope: Any, receive: Any, send: Any) -> None:
            desk.studio.load_may_go.set()
            await json_reply(send, 200, {})

        # A load ends once its progress was heard: the SDK drops what comes in one piece with the end.
        desk.studio.load_may_go.clear()
        release = await stack.enter_async_context(serve(heard))
        where = [f"{desk.url}/mcp"]
        if how == "stdio":
            monkeypatch.setenv("LMDESK_LMSTUDIO_URL", desk.studio_url)
            monkeypatch.setenv("LMDESK_DATA_DIR", str(tmp_path / "own"))
            monkeypatch.setenv("LMDESK_EMBEDDED", "off")
            port = desk.url.rpartition(":")[2]
            where = [sys.executable, "-m", "app", "mcp", "--port", port]
        told = await node.told(str(sdk), how, release, *where)

        assert {"list_models", "chat_completion", "autonomous_with_mcp"} <= set(told["tools"])
        assert "lmstudio:qwen/qwen3-4b" in {model["id"] for model in told["models"]}
        assert told["refused"] is True
        assert "nobody" in told["words"]
        assert told["loaded"] == "done"
        assert told["progress"]
        assert told["aborted"] is True
        await until(lambda: desk.studio.open == 0)


async def test_the_inspectors_command_line_lists_and_calls(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = node.install(tmp_path_factory.mktemp("inspector"), INSPECTOR)
    (command,) = folder.glob("node_modules/@modelcontextprotocol/inspector/package.json")
    bins = orjson.loads(command.read_bytes())["bin"]
    script = str(command.parent / (bins if isinstance(bins, str) else next(iter(bins.values()))))
    async with running_desk(tmp_path) as desk:
        at = ("--cli", f"{desk.url}/mcp", "--transport", "http", "--method")
        status, listed, problems = await node.run(script, *at, "tools/list")
        assert status == 0, problems
        assert "get_current_model" in {tool["name"] for tool in orjson.loads(listed)["tools"]}
        status, called, problems = await node.run(
            script, *at, "tools/call", "--tool-name", "get_current_model"
        )
        assert status == 0, problems
        assert "lmstudio:qwen/qwen3-4b" in called


async def test_the_published_scenarios_that_apply_pass(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = node.install(tmp_path_factory.mktemp("conformance"), CONFORMANCE)
    (command,) = folder.glob("node_modules/@modelcontextprotocol/conformance/package.json")
    bins = orjson.loads(command.read_bytes())["bin"]
    script = str(command.parent / (bins if isinstance(bins, str) else next(iter(bins.values()))))
    async with running_desk(tmp_path) as desk:
        for scenario in SCENARIOS:
            status, out, problems = await node.run(
                script, "server", "--url", f"{desk.url}/mcp", "--scenario", scenario, cwd=tmp_path
            )
            assert status == 0, f"{scenario}: {out[-1500:]} {problems[-500:]}"
