"""What the WebSocket tells of models on disk and in memory."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.engine_fixture import RunningEngine
from tests.integration.engine.conftest import loaded, unload_all
from tests.integration.engine.socket_client import (
    CallFailed,
    Socket,
    config,
    connect_socket,
    load,
    query,
    text,
)

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


@pytest.fixture
async def llm(engine: RunningEngine, client: httpx.AsyncClient) -> AsyncIterator[Socket]:
    await unload_all(client)
    async with connect_socket(engine, "llm") as socket:
        yield socket


async def test_models_on_disk_are_listed_with_all_that_the_clients_require(
    engine: RunningEngine,
) -> None:
    async with connect_socket(engine, "system") as socket:
        models = {m["modelKey"]: m for m in await socket.call("listDownloadedModels")}
    talker = models["acme/talker"]
    assert talker["path"] == "acme/talker/talker.gguf"
    assert (talker["type"], talker["format"], talker["publisher"]) == ("llm", "gguf", "acme")
    assert talker["maxContextLength"] == 4096
    assert talker["sizeBytes"] > 1_000_000
    assert talker["quantization"] == {"name": "F32", "bits": 32}
    assert (talker["vision"], talker["trainedForToolUse"]) == (False, False)
    assert models["tools"]["trainedForToolUse"] is True
    assert models["embed"]["type"] == "embedding"
    assert "vision" not in models["embed"]


async def test_a_loaded_model_is_told_with_its_settings_as_they_really_are(
    llm: Socket, client: httpx.AsyncClient
) -> None:
    stack = config(
        llm__load__contextLength=512,
        llm__load__numParallelSessions=3,
        llm__load__llama__evalBatchSize=64,
        llm__load__llama__flashAttention=True,
        llm__load__llama__kCacheQuantizationType={"checked": True, "value": "q8_0"},
        llm__load__llama__vCacheQuantizationType={"checked": True, "value": "q4_0"},
        llm__load__llama__acceleration__offloadRatio="max",
        llm__load__someday="unknown",
    )
    parameter = load("parrot", identifier="mine", ttlMs=60_000, loadConfigStack=stack)
    success = (await llm.all("loadModel", parameter))[-1]
    assert success["type"] == "success"
    info = success["info"]
    assert (info["identifier"], info["modelKey"]) == ("mine", "parrot")
    assert (info["contextLength"], info["ttlMs"], info["lastUsedTime"]) == (512, 60_000, None)
    assert await llm.call("listLoaded") == [info]
    by_reference = {"type": "instanceReference", "instanceReference": info["instanceReference"]}
    for specifier in (query("mine"), query("parrot"), by_reference):
        found = await llm.call("getModelInfo", {"specifier": specifier, "throwIfNotFound": True})
        assert found == info
    told = await llm.call("getLoadConfig", {"specifier": query("mine")})
    values = {f["key"].removeprefix("llm.load."): f["value"] for f in told["fields"]}
    assert values["contextLength"] == 512
    assert values["numParallelSessions"] == 3
    assert values["llama.evalBatchSize"] == 64
    assert values["llama.flashAttention"] is True
    assert values["llama.kCacheQuantizationType"] == {"checked": True, "value": "q8_0"}
    assert values["llama.vCacheQuantizationType"] == {"checked": True, "value": "q4_0"}
    # This build of llama.cpp has no GPU, whatever was asked for.
    assert values["llama.acceleration.offloadRatio"] == "off"
    assert (await loaded(client))["mine"] == {
        "context_length": 512,
        "eval_batch_size": 64,
        "parallel": 3,
        "flash_attention": True,
        "offload_kv_cache_to_gpu": False,
        "k_cache_quantization_type": "q8_0",
        "v_cache_quantization_type": "q4_0",
    }


async def test_questions_about_what_is_not_loaded_are_refused_with_what_is(llm: Socket) -> None:
    await llm.all("loadModel", load("parrot"))
    nobody = {"specifier": query("nobody"), "throwIfNotFound": False}
    assert await llm.call("getModelInfo", nobody) is None
    for endpoint in ("getModelInfo", "getInstanceProcessingState", "getLoadConfig"):
        with pytest.raises(CallFailed) as failed:
            await llm.call(endpoint, {"specifier": query("nobody"), "throwIfNotFound": True})
        display = failed.value.error["displayData"]
        assert display["code"] == "generic.noModelMatchingQuery"
        assert display["loadedModelsSample"] == ["parrot"]
    with pytest.raises(CallFailed) as failed:
        await llm.call("unloadModel", {"identifier": "nobody"})
    assert failed.value.error["displayData"]["code"] == "generic.identifierNotFound"
    gone = {"type": "instanceReference", "instanceReference": "gone"}
    with pytest.raises(CallFailed) as failed:
        await llm.call("tokenize", {"specifier": gone, "inputString": "x"})
    assert failed.value.error["displayData"]["code"] == "generic.specificModelUnloaded"


async def test_an_unload_answers_when_the_process_is_gone(
    llm: Socket, engine: RunningEngine
) -> None:
    await llm.all("loadModel", load("parrot"))
    assert len(engine.children()) == 1
    assert await llm.call("unloadModel", {"identifier": "parrot"}) is None
    assert engine.children() == []
    assert await llm.call("listLoaded") == []


async def test_tokens_are_counted_by_the_model_and_its_template_is_applied(llm: Socket) -> None:
    await llm.all("loadModel", load("parrot"))
    given = {"specifier": query("parrot"), "inputString": "hello"}
    assert len((await llm.call("tokenize", given))["tokens"]) == 5
    assert await llm.call("countTokens", given) == {"tokenCount": 5}
    told = await llm.call(
        "applyPromptTemplate",
        {
            "specifier": query("parrot"),
            "history": {"messages": [{"role": "user", "content": [text("Hi.")]}]},
            "predictionConfigStack": {"layers": []},
            "opts": {},
        },
    )
    assert told["formatted"] == "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"


async def test_texts_become_vectors_and_each_namespace_keeps_to_its_kind(
    llm: Socket, engine: RunningEngine
) -> None:
    async with connect_socket(engine, "embedding") as embedding:
        success = (await embedding.all("loadModel", load("embed")))[-1]
        assert success["info"]["type"] == "embedding"
        assert await llm.call("listLoaded") == []
        given = {"modelSpecifier": query("embed"), "inputString": "hello"}
        assert len((await embedding.call("embedString", given))["embedding"]) == 288
        with pytest.raises(CallFailed) as failed:
            await embedding.all("loadModel", load("parrot"))
        assert failed.value.error["displayData"] == {
            "code": "generic.domainMismatch",
            "path": "parrot",
            "actualDomain": "llm",
            "expectedDomain": "embedding",
        }
