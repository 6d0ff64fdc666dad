"""The chat store: what `core.ports.ChatStore` promises, in SQL."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from anyio import CancelScope, Lock
from sqlalchemy import Select, delete, func, insert, literal, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.chat import Parameters
from core.chats import Chat, ChatPage, Conversation, Message, MessageStatus
from core.errors import ChatNotFound
from infrastructure.storage import tree
from infrastructure.storage.agents import SqlAgents
from infrastructure.storage.comparisons import SqlComparisons
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.flights import SqlFlights
from infrastructure.storage.listing import IS_WRITING, RUNNING_JOB
from infrastructure.storage.load_history import SqlLoadHistory
from infrastructure.storage.load_settings import SqlLoadSettings
from infrastructure.storage.recipes import SqlRecipes
from infrastructure.storage.rows import (
    chat_columns,
    chat_from,
    message_columns,
    message_from,
    storable,
    title_from,
)
from infrastructure.storage.runs import SqlRuns
from infrastructure.storage.schema import chats, comparisons, messages
from infrastructure.storage.search import matching, snippets, words_of
from infrastructure.storage.similar import SqlMessageIndex
from infrastructure.storage.speeds import SqlSpeeds
from infrastructure.storage.texts import TextWriter
from infrastructure.storage.vectors import SqlVectors


class SqlChatStore:
    """Conversations in SQLite. Readers run side by side; writers queue for one lock."""

    def __init__(self, engine: AsyncEngine, *, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._clock = clock
        self._lock = Lock()
        self._texts = TextWriter(self._writer, self._lock)
        self.load_history = SqlLoadHistory(engine, self._lock)
        """What loads took, in the same file."""
        self.load_settings = SqlLoadSettings(engine, self._lock)
        """How models are to be loaded, in the same file."""
        self.speeds = SqlSpeeds(engine, self._lock)
        """How fast models were, in the same file."""
        self.vectors = SqlVectors(engine, self._lock)
        """Vectors of texts, in the same file."""
        self.message_index = SqlMessageIndex(engine, self._lock)
        """What was said as vectors, in the same file."""
        self.agents = SqlAgents(engine, self._lock)
        """People's own agents, in the same file."""
        self.runs = SqlRuns(engine, self._lock)
        """Runs of agents, in the same file."""
        self.recipes = SqlRecipes(engine, self._lock)
        """Recipes, in the same file."""
        self.comparisons = SqlComparisons(engine, self._lock, clock=clock)
        """Comparisons, in the same file."""
        self.flights = SqlFlights(engine, self._lock)
        """How answers were made, in the same file."""

    async def create_chat(
        self, *, title: str = "", agent_id: str | None = None, model_id: str | None = None
    ) -> Chat:
        """A new, empty chat."""
        now = self._clock()
        chat = Chat(
            id=uuid4().hex,
            title=storable(title),
            agent_id=agent_id,
            model_id=model_id,
            created_at=now,
            updated_at=now,
        )
        async with self._writing() as connection:
            await connection.execute(insert(chats).values(chat_columns(chat)))
        return chat

    async def chat(self, chat_id: str) -> Chat:
        """Raises ChatNotFound, also for a deleted chat."""
        async with self._reading() as connection:
            return await _chat(connection, chat_id)

    async def list_chats(self, *, query: str = "", limit: int = 50, offset: int = 0) -> ChatPage:
        """Newest first; each word of `query` is in the title or a message, the last as a prefix.

        Columns of comparisons are in no list.
        """
        words = words_of(query)
        shown = (chats.c.deleted_at.is_(None), chats.c.comparison_id.is_(None))
        wanted = [*shown, *matching(words)]
        newest = (chats.c.updated_at.desc(), chats.c.seq.desc())
        page = (
            select(chats.c.seq, func.count().over().label("total"))
            .where(*wanted)
            .order_by(*newest)
            .limit(limit)
            .offset(offset)
            .subquery("page")
        )
        listed = (
            select(chats, RUNNING_JOB, page.c.total)
            .join(page, page.c.seq == chats.c.seq)
            .order_by(*newest)
        )
        async with self._reading() as connection:
            rows = (await connection.execute(listed)).mappings().all()
            places = await snippets(connection, words, [row["id"] for row in rows])
            if rows:
                total = int(rows[0]["total"])
            else:  # a page beyond the last has no row to carry the total
                counted = select(func.count()).select_from(chats).where(*wanted)
                total = await connection.scalar(counted) or 0
        following = offset + len(rows)
        return ChatPage(
            chats=tuple(chat_from(row, snippet=places.get(row["id"])) for row in rows),
            total=total,
            next_offset=following if rows and following < total else None,
        )

    async def update_chat(
        self,
        chat_id: str,
        *,
        title: str | None = None,
        agent_id: str | None = None,
        model_id: str | None = None,
        parameters: Parameters | None = None,
        head_id: str | None = None,
    ) -> Chat:
        """Change what is not None. Raises ChatNotFound, and MessageNotFound for a foreign head."""
        given: dict[str, Any] = {
            "title": None if title is None else storable(title),
            "agent_id": agent_id,
            "model_id": model_id,
            "parameters": None if parameters is None else parameters.model_dump(mode="json"),
            "head_id": head_id,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        if changes.keys() - {"title"}:
            changes["updated_at"] = self._clock()
        async with self._writing() as connection:
            await _chat(connection, chat_id)
            if head_id is not None:
                await tree.require(connection, chat_id, head_id)
            if changes:
                await connection.execute(update(chats).where(chats.c.id == chat_id).values(changes))
            return await _chat(connection, chat_id)

    async def delete_chat(self, chat_id: str) -> None:
        """Hide it; `restore_chat` brings it back until `purge_deleted`."""
        hiding = (
            update(chats)
            .where(chats.c.id == chat_id, chats.c.deleted_at.is_(None))
            .values(deleted_at=self._clock())
        )
        async with self._writing() as connection:
            if not _changed(await connection.execute(hiding)):
                raise _no_chat(chat_id)

    async def restore_chat(self, chat_id: str) -> Chat:
        """The chat, no longer deleted. Raises ChatNotFound once it is gone for good."""
        async with self._writing() as connection:
            await connection.execute(
                update(chats).where(chats.c.id == chat_id).values(deleted_at=None)
            )
            return await _chat(connection, chat_id)

    async def purge_deleted(self, *, before: float) -> int:
        """Remove chats deleted before this Unix time for good, and comparisons; how many chats."""
        async with self._writing() as connection:
            await connection.execute(delete(comparisons).where(comparisons.c.deleted_at < before))
            return _changed(
                await connection.execute(delete(chats).where(chats.c.deleted_at < before))
            )

    async def conversation(self, chat_id: str) -> Conversation:
        """The branch that ends in the chat's head, oldest first, with `siblings` filled in."""
        async with self._reading() as connection:
            chat = await _chat(connection, chat_id)
            branch = await tree.branch(connection, chat_id, chat.head_id) if chat.head_id else []
        return Conversation(chat=chat, messages=tuple(branch))

    async def message(self, chat_id: str, message_id: str) -> Message:
        """Raises MessageNotFound."""
        async with self._reading() as connection:
            return await tree.message(connection, chat_id, message_id)

    async def branch(self, chat_id: str, message_id: str | None) -> list[Message]:
        """The messages from the root to this one, oldest first; empty for None."""
        if message_id is None:
            return []
        async with self._reading() as connection:
            return await tree.branch(connection, chat_id, message_id)

    async def tip(self, chat_id: str, message_id: str) -> str:
        """The newest leaf below this message (itself if it has no children)."""
        async with self._reading() as connection:
            return await tree.tip(connection, chat_id, message_id)

    async def add_messages(
        self,
        messages: Sequence[Message],
        *,
        head_id: str,
        agent_id: str | None = None,
        model_id: str | None = None,
    ) -> None:
        """Insert all or none, make `head_id` the chat's head, and move the chat up the list.

        `agent_id` and `model_id` are the chat's from now on, unless None. A chat without a title
        gets one from its first user message. Raises ChatNotFound, and MessageNotFound for a parent
        or head that is not in the chat.
        """
        chat_id = _common_chat(messages)
        given = {"head_id": head_id, "agent_id": agent_id, "model_id": model_id}
        changes: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        # Everybody who starts an answer queues for this: each statement counts.
        async with self._writing() as connection:
            chat = await _chat(connection, chat_id)
            await tree.insert(connection, chat_id, messages)
            if all(message.id != head_id for message in messages):
                await tree.require(connection, chat_id, head_id)
            if not chat.title:
                changes["title"] = title_from(await tree.first_question(connection, chat_id))
            changes["updated_at"] = self._clock()
            await connection.execute(update(chats).where(chats.c.id == chat_id).values(changes))

    async def write_text(self, message_id: str, *, content: str, reasoning: str) -> None:
        """Keep what an answer has so far; a message that is finished stays as it is."""
        await self._texts.write(message_id, content=content, reasoning=reasoning)

    async def finish_message(self, message: Message) -> None:
        """Write all fields of a message that was being written, and index it for search."""
        columns = message_columns(message)
        finishing = (
            update(messages)
            .where(messages.c.id == columns.pop("id"), messages.c.chat_id == columns.pop("chat_id"))
            .values(columns)
        )
        async with self._writing() as connection:
            if not _changed(await connection.execute(finishing)):
                raise tree.no_message(message.id)

    async def being_written(self) -> list[Message]:
        """Every message that is `writing`, without `siblings`."""
        async with self._reading() as connection:
            rows = (await connection.execute(select(messages).where(IS_WRITING))).mappings()
            return [message_from(row) for row in rows]

    async def mark_interrupted(self, *, reason: str) -> int:
        """Turn every message still `writing` into `interrupted`; how many. For the start."""
        async with self._writing() as connection:
            return _changed(
                await connection.execute(
                    update(messages).where(IS_WRITING).values(status="interrupted", reason=reason)
                )
            )

    async def count_by_status(self, status: MessageStatus) -> int:
        """How many messages are in this state, in all chats."""
        counted = (
            select(func.count())
            .select_from(messages)
            .where(messages.c.status == literal(status, literal_execute=True))
        )
        async with self._reading() as connection:
            return await connection.scalar(counted) or 0

    async def aclose(self) -> None:
        """Close every connection; the last one folds the write-ahead log into the file."""
        with CancelScope(shield=True):
            await self._engine.dispose()

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[AsyncConnection]:
        """A stable view of the database."""
        with storage_faults():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that is committed whole or not at all, even when its task is cancelled."""
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    yield connection


async def _chat(connection: AsyncConnection, chat_id: str) -> Chat:
    found: Select[Any] = select(chats, RUNNING_JOB).where(
        chats.c.id == chat_id, chats.c.deleted_at.is_(None)
    )
    row = (await connection.execute(found)).mappings().first()
    if row is None:
        raise _no_chat(chat_id)
    return chat_from(row)


def _common_chat(new: Sequence[Message]) -> str:
    chat_ids = {message.chat_id for message in new}
    if len(chat_ids) != 1:
        raise ValueError("add_messages takes one or more messages of one chat")
    return chat_ids.pop()


def _no_chat(chat_id: str) -> ChatNotFound:
    return ChatNotFound(
        f"There is no chat '{chat_id}'.", hint="It may have been deleted; see the list of chats."
    )


def _changed(result: CursorResult[Any]) -> int:
    return int(result.rowcount)
