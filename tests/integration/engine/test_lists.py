"""What the engine says it has: greeting, lists, unknown routes."""

import httpx
import pytest

from tests import tinygguf
from tests.engine_fixture import start_engine
from tests.integration.engine.conftest import HI, connect, unload_all

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


async def test_the_greeting_is_lm_studios_to_the_byte(client: httpx.AsyncClient) -> None:
    answer = await client.get("/lmstudio-greeting")
    assert answer.content == b'{"lmstudio":true}'


async def test_v1_models_lists_every_model_that_a_request_could_load(
    client: httpx.AsyncClient,
) -> None:
    body = (await client.get("/v1/models")).json()
    assert {entry["id"] for entry in body["data"]} >= {"parrot", "acme/talker", "embed"}
    assert body["data"][0].keys() == {"id", "object", "owned_by"}
    assert body["data"][0]["owned_by"] == "organization_owner"


async def test_v0_models_tell_type_and_state(client: httpx.AsyncClient) -> None:
    await unload_all(client)
    await client.post("/api/v1/models/load", json={"model": "parrot"})
    body = (await client.get("/api/v0/models")).json()
    by_id = {entry["id"]: entry for entry in body["data"]}
    assert by_id["parrot"] == {
        "id": "parrot",
        "object": "model",
        "type": "llm",
        "publisher": "local",
        "arch": "llama",
        "compatibility_type": "gguf",
        "quantization": "F32",
        "state": "loaded",
        "max_context_length": 4096,
        "loaded_context_length": 4096,
    }
    assert by_id["embed"]["type"] == "embeddings"
    assert by_id["thinker"]["state"] == "not-loaded"
    assert "loaded_context_length" not in by_id["thinker"]
    assert by_id["tools"]["capabilities"] == ["tool_use"]


@pytest.mark.parametrize("path", ["acme/talker", "acme%2Ftalker"])
async def test_v0_finds_one_model_by_an_id_with_a_slash(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(f"/api/v0/models/{path}")
    assert answer.status_code == 200
    assert answer.json()["id"] == "acme/talker"
    assert answer.json()["publisher"] == "acme"


async def test_v0_says_that_a_model_is_unknown(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v0/models/parot")
    assert answer.status_code == 404
    assert "parrot" in answer.json()["error"]["message"]


async def test_v1_models_show_the_real_context_of_what_is_loaded(
    client: httpx.AsyncClient,
) -> None:
    await unload_all(client)
    await client.post("/api/v1/models/load", json={"model": "parrot", "context_length": 1024})
    models = (await client.get("/api/v1/models")).json()["models"]
    entry = next(model for model in models if model["key"] == "parrot")
    assert entry["type"] == "llm"
    assert entry["quantization"] == {"name": "F32", "bits_per_weight": 32.0}
    assert entry["loaded_instances"][0]["id"] == "parrot"
    assert entry["loaded_instances"][0]["config"]["context_length"] == 1024
    assert entry["capabilities"] == {"vision": False, "trained_for_tool_use": False}
    embedder = next(model for model in models if model["key"] == "embed")
    assert embedder["type"] == "embedding"
    assert "architecture" not in embedder
    assert "capabilities" not in embedder


async def test_damaged_files_are_listed_with_what_is_known(client: httpx.AsyncClient) -> None:
    models = (await client.get("/api/v1/models")).json()["models"]
    by_key = {model["key"]: model for model in models}
    assert by_key["truncated"]["architecture"] == "llama"
    assert "incomplete" in by_key["truncated"]["description"]
    assert "not a GGUF file" in by_key["corrupt"]["description"]
    assert by_key["corrupt"]["size_bytes"] == 100_000


async def test_a_new_file_is_listed_without_a_restart(tmp_path) -> None:
    async with start_engine(tmp_path) as engine, connect(engine) as client:
        assert (await client.get("/v1/models")).json()["data"] == []
        tinygguf.parrot(tmp_path / "late.gguf")
        (tmp_path / "mmproj-late.gguf").write_bytes(b"GGUF")
        assert [m["id"] for m in (await client.get("/v1/models")).json()["data"]] == ["late"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v0/models/load"),
        ("GET", "/health"),
        ("DELETE", "/v1/models"),
        ("OPTIONS", "/v1/chat/completions"),
        ("POST", "/chat/completions"),
        ("GET", "/v1/models/"),
    ],
)
async def test_an_unknown_route_answers_200_with_an_error(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 200
    assert answer.json() == {"error": f"Unexpected endpoint or method. ({method} {path})"}


async def test_profile_0_3_has_no_native_api_and_no_tokens(models_dir) -> None:
    async with (
        start_engine(models_dir, profile="0.3", token="sk-lm-aaaaaaaa:" + "b" * 20) as engine,
        httpx.AsyncClient(base_url=engine.url, trust_env=False) as client,
    ):
        unknown = await client.get("/api/v1/models")
        assert unknown.json()["error"].startswith("Unexpected endpoint")
        assert (await client.get("/api/v0/models")).json()["data"]
        answer = await client.post("/v1/chat/completions", json={"model": "parrot", "messages": HI})
        assert answer.json()["choices"][0]["message"]["content"] == tinygguf.HELLO_TEXT
