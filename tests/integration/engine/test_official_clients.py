"""LM Studio's own clients against the engine: what they list, load, hear and unload."""

import shutil
import warnings
from pathlib import Path

import pytest

from tests import node
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
    script = str(typescript_client / SCRIPT.name)
    told = await node.told(script, engine.url.replace("http://", "ws://"), "parrot")

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


@pytest.fixture(scope="session")
def typescript_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and what it imports."""
    folder = node.install(tmp_path_factory.mktemp("typescript"), SDK)
    shutil.copy(SCRIPT, folder)
    return folder
