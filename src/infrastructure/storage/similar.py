"""What was said as vectors: `core.ports.MessageIndex`, kept in SQL and compared in memory.

The unit vectors of a space are read at its first use; a search is one multiplication.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from anyio import CancelScope, Lock
from sqlalchemy import delete, func, literal, or_, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.chats import Chat
from core.embedding import Vector
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.listing import RUNNING_JOB
from infrastructure.storage.rows import chat_from
from infrastructure.storage.schema import chats, message_vectors, messages
from infrastructure.storage.search import excerpt, words_of
from infrastructure.storage.vectors import packed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The newest ones; older messages are found by their words.
MAX_MESSAGES: Final = 20_000
# Of the matrix: with long vectors fewer messages.
MAX_BYTES: Final = 64 * 1024 * 1024
# Besides the model in use the one before it: who changes back need not wait.
KEPT_SPACES: Final = 2
# The best messages looked at for their chats.
LOOKED_AT: Final = 400
MAX_BLOCKS: Final = 32


class _Space(NamedTuple):
    """Unit vectors of messages and whose they are."""

    blocks: "tuple[NDArray[np.float32], ...]"
    """All of one width; together as long as the two lists."""
    seqs: list[int]
    chat_ids: list[str]


class _Row(NamedTuple):
    """A message's vector as the table has it."""

    seq: int
    chat_id: str
    vector: bytes | None


class SqlMessageIndex:
    """Writers queue for the lock they are given. Searches run in a thread."""

    def __init__(self, engine: AsyncEngine, lock: Lock) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._lock = lock
        self._spaces: dict[str, _Space] = {}
        self._fresh: dict[str, list[_Row]] = {}
        self._kept = 0
        self._growing = Lock()

    async def unindexed(self, space: str, *, limit: int) -> list[tuple[str, str]]:
        """Ids and texts without a vector, newest first. Raises StorageError."""
        newest = select(func.max(messages.c.seq)).scalar_subquery()
        done = (
            select(message_vectors.c.message_id)
            .where(message_vectors.c.message_id == messages.c.id, message_vectors.c.space == space)
            .exists()
        )
        wanted = (
            select(messages.c.id, messages.c.content)
            .join(chats, chats.c.id == messages.c.chat_id)
            .where(
                messages.c.seq > newest - MAX_MESSAGES,
                messages.c.status != literal("writing"),
                messages.c.role.in_(("user", "assistant")),
                func.trim(messages.c.content) != "",
                chats.c.deleted_at.is_(None),
                chats.c.comparison_id.is_(None),
                ~done,
            )
            .order_by(messages.c.seq.desc())
            .limit(limit)
        )
        with storage_faults():
            async with self._engine.connect() as connection:
                return [(row.id, row.content) for row in await connection.execute(wanted)]

    async def keep_messages(self, space: str, vectors: Mapping[str, Vector | None]) -> None:
        """Keep them; a message that is gone meanwhile is left out. Raises StorageError."""
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    there = select(messages.c.id, messages.c.seq, messages.c.chat_id)
                    found = await connection.execute(there.where(messages.c.id.in_(list(vectors))))
                    rows = {row.id: _row(row, vectors[row.id]) for row in found}
                    if rows:
                        adding = insert(message_vectors).on_conflict_do_nothing()
                        columns = [
                            {"message_id": message_id, "space": space, "vector": row.vector}
                            for message_id, row in rows.items()
                        ]
                        await connection.execute(adding, columns)
                    await _bound(connection)
        self._kept += 1
        if space in self._spaces:
            telling = [row for row in rows.values() if row.vector is not None]
            self._fresh.setdefault(space, []).extend(telling)

    async def make_ready(self, space: str) -> None:
        """Read the vectors before somebody waits for them. Raises StorageError."""
        async with self._growing:
            await self._current(space)

    async def similar_chats(
        self, space: str, vector: Vector, query: str, *, limit: int
    ) -> list[Chat]:
        """Chats whose best message stands out, with its score and an excerpt. Raises StorageError."""
        hidden = await self._hidden()
        best: dict[int, float] = {}
        found: dict[int, Chat] = {}
        for _ in range(2):
            async with self._growing:
                known = await self._current(space)
            if not known.seqs or known.blocks[0].shape[1] != len(vector):
                return []
            best = await asyncio.to_thread(_best, known, vector, hidden, limit)
            found = await self._chats(list(best), query)
            if len(found) == len(best):
                break
            self._spaces.pop(space, None)  # some are gone for good
        ranked = [
            chat.model_copy(update={"score": round(best[seq], 4)}) for seq, chat in found.items()
        ]
        return sorted(ranked, key=lambda chat: -(chat.score or 0.0))

    async def _hidden(self) -> set[str]:
        """Deleted chats that may come back, and columns of comparisons."""
        deleted = select(chats.c.id).where(
            or_(chats.c.deleted_at.is_not(None), chats.c.comparison_id.is_not(None))
        )
        with storage_faults():
            async with self._engine.connect() as connection:
                return set((await connection.execute(deleted)).scalars())

    async def _chats(self, seqs: Sequence[int], query: str) -> dict[int, Chat]:
        """The chats of these messages that are still there, each with an excerpt of the message."""
        wanted = (
            select(chats, RUNNING_JOB, messages.c.seq.label("place"), messages.c.content)
            .join(messages, messages.c.chat_id == chats.c.id)
            .where(messages.c.seq.in_(seqs), chats.c.deleted_at.is_(None))
        )
        words = words_of(query)
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(wanted)).mappings().all()
        return {
            row["place"]: chat_from(row, snippet=excerpt(row["content"], words)) for row in rows
        }

    async def _current(self, space: str) -> _Space:
        known = self._spaces.get(space)
        fresh = self._fresh.pop(space, [])
        if known is None or len(known.seqs) + len(fresh) > MAX_MESSAGES:
            return await self._read(space)
        if fresh:
            known = self._spaces[space] = await asyncio.to_thread(_grown, known, fresh)
        return known

    async def _read(self, space: str) -> _Space:
        wanted = (
            select(messages.c.seq, messages.c.chat_id, message_vectors.c.vector)
            .join(messages, messages.c.id == message_vectors.c.message_id)
            .where(message_vectors.c.space == space, message_vectors.c.vector.is_not(None))
            .order_by(messages.c.seq.desc())
            .limit(MAX_MESSAGES)
        )
        before = self._kept
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(wanted)).all()
        known = await asyncio.to_thread(_space, rows)
        if before == self._kept:  # else something came in between, and the next search reads again
            self._spaces[space] = known
        if len(self._spaces) > KEPT_SPACES:
            gone = next(iter(self._spaces))
            del self._spaces[gone]
            self._fresh.pop(gone, None)
        return known


def _space(rows: Sequence[Any]) -> _Space:
    import numpy as np  # a tenth of a second that most starts need not pay

    if not rows:
        return _Space((), [], [])
    size = len(rows[0].vector)
    same = [row for row in rows if len(row.vector) == size][: max(1, MAX_BYTES // size)]
    matrix = np.frombuffer(b"".join(row.vector for row in same), np.float32).reshape(len(same), -1)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix = matrix / np.maximum(lengths, np.float32(1e-9))
    return _Space((matrix,), [row.seq for row in same], [row.chat_id for row in same])


def _grown(known: _Space, fresh: Sequence[_Row]) -> _Space:
    import numpy as np

    more = _space(fresh)
    if not known.seqs or not more.seqs or known.blocks[0].shape[1] != more.blocks[0].shape[1]:
        return known if known.seqs else more
    first, *rest = (*known.blocks, *more.blocks)
    if len(rest) > MAX_BLOCKS:  # the large one is never copied for a few new ones
        rest = [np.concatenate(rest)]
    return _Space((first, *rest), known.seqs + more.seqs, known.chat_ids + more.chat_ids)


def _row(message: Any, vector: Vector | None) -> _Row:
    return _Row(message.seq, message.chat_id, None if vector is None else packed(vector))


def _best(known: _Space, vector: Vector, hidden: set[str], limit: int) -> dict[int, float]:
    """By the number of its best message, the score of each chat that stands out, best first.

    Models differ in what they call similar: what counts is to be at least half as far above the
    middle as the best one is.
    """
    import numpy as np

    asked = np.asarray(vector, np.float32)
    asked = asked / np.float32(max(float(np.linalg.norm(asked)), 1e-9))
    scores = np.concatenate([block @ asked for block in known.blocks])
    shown = np.arange(len(scores))
    if hidden:
        shown = np.flatnonzero([chat_id not in hidden for chat_id in known.chat_ids])
        if not len(shown):
            return {}
    order = shown[np.argsort(-scores[shown])[:LOOKED_AT]]
    best, middle = float(scores[order[0]]), float(scores[shown].mean())
    least = middle + (best - middle) / 2
    found: dict[str, tuple[int, float]] = {}
    for place in order.tolist():
        score = float(scores[place])
        if score < least or len(found) == limit:
            break
        found.setdefault(known.chat_ids[place], (known.seqs[place], score))
    return dict(found.values())


async def _bound(connection: AsyncConnection) -> None:
    """Only the newest messages and the last spaces stay."""
    newest = await connection.scalar(select(func.max(messages.c.seq))) or 0
    old = select(messages.c.id).where(messages.c.seq <= newest - MAX_MESSAGES)
    if newest > MAX_MESSAGES:
        await connection.execute(
            delete(message_vectors).where(message_vectors.c.message_id.in_(old))
        )
    last = func.max(message_vectors.c.seq)
    spaces = select(message_vectors.c.space).group_by(message_vectors.c.space).order_by(last.desc())
    going = (await connection.execute(spaces)).scalars().all()[KEPT_SPACES:]
    if going:
        await connection.execute(delete(message_vectors).where(message_vectors.c.space.in_(going)))
