"""Our frames beside those of the official client, which the scripted server understands as well."""

import warnings
from contextlib import aclosing
from typing import Any

import pytest

from core.models import LoadOptions
from infrastructure.providers.lmstudio import LMStudioProvider
from tests.servers import ScriptedModel
from tests.sockets import serve
from tests.websocket_servers import SocketLMStudio

pytestmark = pytest.mark.anyio

KEY = "qwen/qwen3-4b"


async def officially(address: str) -> list[float]:
    """Load, count and unload with the official client; the progress it saw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lmstudio = pytest.importorskip("lmstudio", reason="the official client is not installed")
        seen: list[float] = []
        config = {
            "contextLength": 4096,
            "gpu": {"ratio": 0.5},
            "evalBatchSize": 256,
            "flashAttention": True,
            "llamaKCacheQuantizationType": "q8_0",
            "llamaVCacheQuantizationType": "q8_0",
        }
        async with lmstudio.AsyncClient(address) as client:
            assert [model.model_key for model in await client.llm.list_downloaded()] == [KEY]
            model = await client.llm.load_new_instance(
                KEY, ttl=300, config=config, on_load_progress=seen.append
            )
            assert await model.count_tokens("one two") == 2
            assert len(await client.llm.list_loaded()) == 1
            await client.llm.unload(KEY)
        return seen


async def ours(url: str) -> None:
    provider = LMStudioProvider("lm", url)
    options = LoadOptions(
        context_length=4096,
        ttl_seconds=300,
        gpu_offload=0.5,
        eval_batch_size=256,
        flash_attention=True,
        kv_cache_type="q8_0",
    )
    async with aclosing(provider.load_model(KEY, options)) as events:
        async for _ in events:
            pass
    assert await provider.count_tokens(KEY, "one two") == 2
    await provider.unload_instance(KEY)
    await provider.aclose()


def comparable(frame: dict[str, Any]) -> dict[str, Any]:
    """A frame without its number and without what the official client adds of its own."""
    frame = {key: value for key, value in frame.items() if key not in ("callId", "channelId")}
    if frame["endpoint"] != "loadModel":
        return frame
    wanted = frame["creationParameter"]
    (layer,) = wanted["loadConfigStack"]["layers"]
    fields = {field["key"]: field["value"] for field in layer["config"]["fields"]}
    fields.pop("load.gpuSplitConfig", None)
    return {**frame, "creationParameter": {**wanted, "loadConfigStack": fields}}


async def test_we_ask_for_the_same_in_the_same_words_as_the_official_client() -> None:
    spoken: list[dict[str, dict[str, Any]]] = []
    for speak in (officially, ours):
        lm = SocketLMStudio(profile="0.3", models=[ScriptedModel(KEY)])
        async with serve(lm) as url:
            await speak(url.removeprefix("http://") if speak is officially else url)
        frames = [frame for _, frame in lm.frames_got if "endpoint" in frame]
        spoken.append({frame["endpoint"]: comparable(frame) for frame in frames})
        assert not lm.models[KEY].instances

    theirs, mine = spoken
    for endpoint in ("loadModel", "countTokens", "unloadModel", "listDownloadedModels"):
        assert mine[endpoint] == theirs[endpoint]
