"""How a model is to be loaded: remembered, used by every load, and asked for over the API."""

from pathlib import Path

import pytest

from tests.desk import run_desk
from tests.router_server import ScriptedRouter
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import serve

pytestmark = pytest.mark.anyio

QWEN = "qwen/qwen3-4b"
URL = "/api/v1/models/settings"
LOAD = "/api/v1/models/load"
UNLOAD = "/api/v1/models/unload"


async def test_settings_outlive_a_restart_and_count_for_every_load(tmp_path: Path) -> None:
    studio = ScriptedLMStudio()
    instances = studio.models[QWEN].instances
    async with serve(studio) as url:
        async with run_desk(tmp_path, lmstudio_url=url) as desk:
            wanted = {"model_id": QWEN, "context_length": 2048}
            kept = (await desk.put(URL, json=wanted)).json()
            assert kept["options"]["context_length"] == 2048
            assert kept["model_id"] == f"lmstudio:{QWEN}"
            levels = {choice["name"]: choice["level"] for choice in kept["choices"]}
            assert (levels["context_length"], levels["gpu_offload"]) == ("remembered", "provider")

            await desk.post(LOAD, json={"model_id": QWEN})
            assert list(instances.values()) == [2048]
            await desk.post(UNLOAD, json={"model_id": QWEN})
            await desk.post(LOAD, json={"model_id": QWEN, "context_length": 1024})
            assert list(instances.values()) == [1024], "what is asked for now wins"
            await desk.post(UNLOAD, json={"model_id": QWEN})

        async with run_desk(tmp_path, lmstudio_url=url) as desk:
            kept = (await desk.get(URL, params={"model_id": QWEN})).json()
            assert kept["options"]["context_length"] == 2048
            assert kept["loaded"] == []
            turn = await desk.ask(await desk.chat(), model_id=QWEN)
            await desk.events(turn["job_id"])
            assert list(instances.values()) == [2048], "an answer loads it the same way"


async def test_an_answer_tells_the_context_asked_for_and_the_one_it_got(tmp_path: Path) -> None:
    studio = ScriptedLMStudio()
    async with serve(studio) as url, run_desk(tmp_path, lmstudio_url=url) as desk:
        await desk.put(URL, json={"model_id": QWEN, "context_length": 4096})
        studio.models[QWEN].instances[QWEN] = 1024  # by somebody else
        chat = await desk.chat()
        await desk.events((await desk.ask(chat, model_id=QWEN))["job_id"])
        truth = (await desk.last_message(chat))["model"]

    assert (truth["asked_context"], truth["got_context"]) == (4096, 1024)


async def test_an_empty_write_leaves_it_to_the_provider_again(tmp_path: Path) -> None:
    async with (
        serve(ScriptedLMStudio()) as url,
        run_desk(tmp_path, lmstudio_url=url) as desk,
    ):
        await desk.put(URL, json={"model_id": QWEN, "context_length": 2048, "parallel": 2})
        await desk.put(URL, json={"model_id": QWEN})
        kept = (await desk.get(URL, params={"model_id": QWEN})).json()

    assert set(kept["options"].values()) == {None}
    assert {choice["level"] for choice in kept["choices"]} == {"provider"}


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"model_id": QWEN, "context_length": 5}, 422, "bad_parameter"),
        ({"model_id": QWEN, "kv_cache_type": "q3"}, 422, "bad_parameter"),
        ({"model_id": QWEN, "gpu_offload": 1.5}, 422, "bad_parameter"),
        ({"model_id": "qwen/qwen3-5b"}, 404, "model_not_found"),
    ],
)
async def test_bad_settings_are_refused_with_their_name(
    tmp_path: Path, wanted: dict[str, object], status: int, code: str
) -> None:
    async with (
        serve(ScriptedLMStudio()) as url,
        run_desk(tmp_path, lmstudio_url=url) as desk,
    ):
        answer = await desk.put(URL, json=wanted)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    named = next((name for name in wanted if name != "model_id"), QWEN)
    assert named in problem["detail"] + problem["hint"]


async def test_only_what_a_server_takes_is_offered_remembered_and_used(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(models=[ScriptedModel("m")])
    router = ScriptedRouter(events=None)
    wanted = {"model_id": "box:m", "context_length": 2048}
    async with serve(studio) as url:
        providers = {"box": {"kind": "lmstudio", "base_url": url}}
        async with run_desk(tmp_path, providers=providers) as desk:
            kept = (await desk.put(URL, json=wanted)).json()
            assert "context_length" in kept["takes"]
    async with serve(router) as url:
        providers = {"box": {"kind": "llamacpp", "base_url": url}}
        async with run_desk(tmp_path, providers=providers) as desk:
            assert (await desk.get(URL, params={"model_id": "box:m"})).json()["takes"] == []
            refused = await desk.put(URL, json=wanted)
            loaded = await desk.post(LOAD, json={"model_id": "box:m"})

    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
    assert refused.json()["detail"] == "box does not take context length for a load."
    assert loaded.status_code == 200, loaded.text
    assert router.state == "loaded"
