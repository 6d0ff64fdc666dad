"""LM Studio's own clients against the engine: what they list, load, hear and unload."""

import asyncio
import json
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.engine_fixture import RunningEngine

pytestmark = pytest.mark.anyio

HELLO = "Hello from the tiny test model."
# The newest that both LM Studio 0.3 and 0.4 were measured with.
SDK = "@lmstudio/sdk@1.5.0"
SCRIPT = Path(__file__).with_name("official_client.mjs")


async def test_the_python_client_lists_loads_chats_and_unloads(engine: RunningEngine) -> None:
    seen: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lmstudio = pytest.importorskip("lmstudio", reason="the official client is not installed")
        async with lmstudio.AsyncClient(engine.url.removeprefix("http://")) as client:
            keys = {model.model_key for model in await client.llm.list_downloaded()}
            model = await client.llm.load_new_instance(
                "parrot", config={"contextLength": 512}, on_load_progress=seen.append
            )
            loaded = [each.identifier for each in await client.llm.list_loaded()]
            context = await model.get_context_length()
            pieces = [piece.content async for piece in await model.respond_stream("Hi.")]
            tokens = await model.count_tokens("Hello there")
            await model.unload()
            left = await client.llm.list_loaded()
            with pytest.raises(lmstudio.LMStudioServerError, match="no-such-model"):
                await client.llm.load_new_instance("no-such-model")

    assert {"parrot", "endless"} <= keys
    assert (loaded, context, left) == (["parrot"], 512, [])
    rising(seen)
    assert "".join(pieces) == HELLO
    assert len(pieces) > 1
    assert tokens > 1
    assert engine.children() == []


async def test_the_typescript_client_lists_loads_chats_and_unloads(
    engine: RunningEngine, typescript_client: Path
) -> None:
    told = await talk(typescript_client, engine.url.replace("http://", "ws://"), "parrot")

    assert {"parrot", "endless"} <= set(told["downloaded"])
    assert (told["loaded"], told["context"], told["left"]) == (["parrot"], 512, [])
    rising(told["progress"])
    assert told["text"] == HELLO
    assert told["pieces"] > 1
    assert told["stop"] == "eosFound"
    assert told["tokens"] > 1
    assert "no-such-model" in told["refusal"]
    assert engine.children() == []


def rising(progress: list[float]) -> None:
    assert len(progress) >= 3
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


async def talk(folder: Path, *arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        "node",
        str(folder / SCRIPT.name),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, problems = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, problems.decode()[-2000:]
    told: dict[str, Any] = json.loads(out)
    return told


@pytest.fixture(scope="session")
def typescript_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and what it imports."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node.js is not installed")
    folder = tmp_path_factory.mktemp("typescript")
    shutil.copy(SCRIPT, folder)
    quiet = ("--no-audit", "--no-fund", "--no-save", "--no-package-lock", "--ignore-scripts")
    try:
        got = subprocess.run(
            ["npm", "install", *quiet, "--prefix", str(folder), SDK],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{SDK} could not be had within two minutes")
    if got.returncode != 0:
        said = [line for line in got.stderr.splitlines() if line.startswith("npm error")]
        pytest.skip(f"{SDK} could not be installed: {' '.join(said[:2])}")
    return folder
