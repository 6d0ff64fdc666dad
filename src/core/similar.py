"""SimilarChats: finds chats by what was meant, where a model that makes vectors is at hand."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence

from core.chats import Chat, ChatPage, SearchMode
from core.embedding import Vector
from core.embeddings import EmbeddingService, refused
from core.errors import DeskError, ModelUnloaded, NoEmbeddingModel
from core.jobs import JobService
from core.models import ModelInfo
from core.ports import ChatStore, MessageIndex
from core.revisions import Revisions

log = logging.getLogger(__name__)

# How often to look whether there is something new to index; a look costs a number's comparison.
LOOK_SECONDS = 5.0
# After a failure, which the provider may need a while to get over.
TROUBLE_SECONDS = 60.0
# Small, so that whoever asks something meanwhile hardly waits. Between two batches as much time
# passes as one took: a machine without a GPU has other things to do as well.
BATCH = 8
# Beginning of a message that stands for it; about what small models read.
MAX_CHARS = 2000
# For a text the model minded: a token can be a single character.
MIN_CHARS = 400
KEPT_QUERIES = 64
# A person types; longer than this the words alone have to do.
PATIENCE_SECONDS = 2.0
MAX_SIMILAR = 40


class SimilarChats:
    """Searches, and keeps an index of what was said in step with the chats, behind our back."""

    def __init__(
        self,
        store: ChatStore,
        index: MessageIndex,
        embeddings: EmbeddingService,
        jobs: JobService,
        revisions: Revisions,
    ) -> None:
        self._store = store
        self._index = index
        self._embeddings = embeddings
        self._jobs = jobs
        self._revisions = revisions
        self._queries: OrderedDict[tuple[str, str], Vector] = OrderedDict()
        self._done: tuple[str, int] | None = None

    # -- searching --------------------------------------------------------------------------------

    async def search(
        self, query: str, *, mode: SearchMode = "auto", limit: int = 50, offset: int = 0
    ) -> ChatPage:
        """Chats that have all the words, or that are about the same; `mode_used` says which.

        `auto` takes both where a model that makes vectors is in memory: what has the words first,
        then what is similar, the most similar first. Nothing is ever loaded for it. Raises
        NoEmbeddingModel where `semantic` is asked for and there is none.
        """
        words = query.strip()
        if not words or mode == "text":
            return await self._by_words(query, limit=limit, offset=offset)
        model = await self._embeddings.ready()
        if model is None and mode == "semantic":
            raise NoEmbeddingModel(
                "No model that makes vectors is in memory, so only words can be searched for.",
                hint="Load an embedding model, or search with mode=text.",
            )
        similar = await self._similar(model, words, strict=mode == "semantic") if model else None
        if model is None or similar is None:
            return await self._by_words(query, limit=limit, offset=offset)
        if mode == "semantic":
            return _page(similar, model, len(similar), limit=limit, offset=offset)
        return await self._both(query, similar, model, limit=limit, offset=offset)

    async def _by_words(self, query: str, *, limit: int, offset: int) -> ChatPage:
        page = await self._store.list_chats(query=query, limit=limit, offset=offset)
        return page.model_copy(update={"mode_used": "text"}) if query.strip() else page

    async def _both(
        self, query: str, similar: Sequence[Chat], model: ModelInfo, *, limit: int, offset: int
    ) -> ChatPage:
        """Those with the words, then those that only mean the same."""
        page = await self._store.list_chats(query=query, limit=offset + limit, offset=0)
        exact = {chat.id for chat in page.chats}
        # With more of these than fit, whoever pages on to their end gets the others.
        whole = page.total == len(exact)
        more = [chat for chat in similar if chat.id not in exact] if whole else []
        total = page.total + len(more)
        return _page([*page.chats, *more], model, total, limit=limit, offset=offset)

    async def _similar(self, model: ModelInfo, words: str, *, strict: bool) -> list[Chat] | None:
        """The most similar first; None where the words alone have to do."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                vector = await self._vector(model, words)
                return await self._index.similar_chats(
                    space_of(model), vector, words, limit=MAX_SIMILAR
                )
        except TimeoutError:
            log.warning("%s took too long to understand a search", model.name)
        except DeskError as error:
            if strict:
                raise
            log.warning("a search could not be understood: %s", error.message)
        return [] if strict else None

    async def _vector(self, model: ModelInfo, words: str) -> Vector:
        asked = (space_of(model), words)
        vector = self._queries.pop(asked, None)
        if vector is None:
            (vector,) = await self._embeddings.now(model, [_prefixes(model)[0] + words])
        self._queries[asked] = vector
        if len(self._queries) > KEPT_QUERIES:
            self._queries.popitem(last=False)
        return vector

    # -- indexing ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the index in step until cancelled."""
        while True:
            pause = LOOK_SECONDS
            try:
                await self.look()
            except ModelUnloaded:
                log.info("messages are indexed further when their model is back")
            except DeskError as error:
                log.warning("messages could not be indexed: %s", error.message)
                pause = TROUBLE_SECONDS
            await asyncio.sleep(pause)

    async def look(self) -> int:
        """Index what is new, if a model for it is at hand and nobody waits for an answer; how many."""
        model = await self._embeddings.ready()
        if model is None:
            return 0
        space = space_of(model)
        indexed = 0
        mark = (space, self._revisions.chats)
        if mark == self._done:
            return 0
        while not self._answering():
            began = time.monotonic()
            texts = await self._index.unindexed(space, limit=BATCH)
            if not texts:
                await self._index.make_ready(space)
                self._done = mark
                break
            await self._index.keep_messages(space, await self._vectors(model, texts))
            indexed += len(texts)
            await asyncio.sleep(time.monotonic() - began)
        return indexed

    def _answering(self) -> bool:
        return any(job.kind in ("turn", "request") for job in self._jobs.list(state="running"))

    async def _vectors(
        self, model: ModelInfo, texts: Sequence[tuple[str, str]]
    ) -> dict[str, Vector | None]:
        """By message; None for a text that the model cannot take at all."""
        prefix = _prefixes(model)[1]
        ids = [message_id for message_id, _ in texts]
        try:
            made = await self._embeddings.now(
                model, [prefix + text[:MAX_CHARS] for _, text in texts]
            )
            return dict(zip(ids, made, strict=True))
        except DeskError as error:
            if not refused(error):
                raise
        found: dict[str, Vector | None] = {}
        for message_id, text in texts:  # one of them is too long for it
            try:
                (found[message_id],) = await self._embeddings.now(
                    model, [prefix + text[:MIN_CHARS]]
                )
            except DeskError as error:
                if not refused(error):
                    raise
                found[message_id] = None
        return found


def space_of(model: ModelInfo) -> str:
    """Vectors can be compared within one; another file of a model is another one."""
    return f"{model.full_name} {model.quantization} {model.size_bytes}"


def _prefixes(model: ModelInfo) -> tuple[str, str]:
    """What a question and a text begin with, for models that were trained so."""
    if "nomic-embed" in model.id.casefold():
        return "search_query: ", "search_document: "
    return "", ""


def _page(
    chats: Sequence[Chat], model: ModelInfo, total: int, *, limit: int, offset: int
) -> ChatPage:
    shown = tuple(chats[offset : offset + limit])
    following = offset + len(shown)
    return ChatPage(
        chats=shown,
        total=total,
        next_offset=following if shown and following < total else None,
        mode_used="semantic",
        searched_with=model.full_name,
    )
