"""Comparisons: `core.comparisons.ComparisonStore` in SQL, in the database of the chats."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from anyio import CancelScope, Lock
from pydantic import ValidationError
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.chats import Chat
from core.comparisons import Comparison, ComparisonBrief, ComparisonNotFound, ComparisonPage
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.rows import chat_columns, storable
from infrastructure.storage.schema import chats, comparisons


class SqlComparisons:
    """One row a comparison. Writers queue for the lock they are given."""

    def __init__(self, engine: AsyncEngine, lock: Lock, *, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._lock = lock
        self._clock = clock

    async def add_comparison(self, comparison: Comparison, columns: Sequence[Chat]) -> None:
        """Keep it and the chats of its columns. Raises StorageError."""
        async with self._writing() as connection:
            await connection.execute(
                insert(comparisons).values(id=comparison.id, **_columns(comparison))
            )
            await connection.execute(insert(chats), [chat_columns(each) for each in columns])

    async def keep_comparison(self, comparison: Comparison) -> None:
        """Replace the one of its id. Raises StorageError."""
        mine = update(comparisons).where(comparisons.c.id == comparison.id)
        async with self._writing() as connection:
            await connection.execute(mine.values(_columns(comparison)))

    async def comparison(self, comparison_id: str) -> Comparison:
        """Raises ComparisonNotFound, also for a deleted one, or StorageError."""
        with storage_faults():
            async with self._engine.connect() as connection:
                return await _read(connection, comparison_id)

    async def comparisons(self, *, query: str = "", limit: int, offset: int) -> ComparisonPage:
        """The one asked last first; all words of `query` are in the title. Raises StorageError."""
        wanted: list[Any] = [comparisons.c.deleted_at.is_(None)]
        wanted += [
            comparisons.c.title.icontains(word, autoescape=True) for word in query.split()[:24]
        ]
        newest = (comparisons.c.updated_at.desc(), comparisons.c.seq.desc())
        listed = select(comparisons.c.record).where(*wanted).order_by(*newest)
        counted = select(func.count()).select_from(comparisons).where(*wanted)
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(listed.limit(limit).offset(offset))).all()
                total = await connection.scalar(counted) or 0
        following = offset + len(rows)
        known = [found for row in rows if (found := _known(row.record)) is not None]
        return ComparisonPage(
            comparisons=tuple(_brief(each) for each in known),
            total=total,
            next_offset=following if rows and following < total else None,
        )

    async def release_chat(self, chat_id: str) -> None:
        """From now on an ordinary chat. Raises StorageError."""
        async with self._writing() as connection:
            await connection.execute(
                update(chats).where(chats.c.id == chat_id).values(comparison_id=None)
            )

    async def delete_comparison(self, comparison_id: str) -> None:
        """Hide it and its own chats. Raises ComparisonNotFound or StorageError."""
        async with self._writing() as connection:
            await _read(connection, comparison_id)
            await _hide(connection, comparison_id, self._clock())

    async def restore_comparison(self, comparison_id: str) -> Comparison:
        """Undo a delete. Raises ComparisonNotFound once it is gone for good, or StorageError."""
        async with self._writing() as connection:
            await _hide(connection, comparison_id, None)
            return await _read(connection, comparison_id)

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[AsyncConnection]:
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    yield connection


async def _hide(connection: AsyncConnection, comparison_id: str, at: float | None) -> None:
    mine = update(comparisons).where(comparisons.c.id == comparison_id)
    await connection.execute(mine.values(deleted_at=at))
    columns = update(chats).where(chats.c.comparison_id == comparison_id)
    await connection.execute(columns.values(deleted_at=at))


async def _read(connection: AsyncConnection, comparison_id: str) -> Comparison:
    found = select(comparisons.c.record).where(
        comparisons.c.id == comparison_id, comparisons.c.deleted_at.is_(None)
    )
    row = (await connection.execute(found)).first()
    comparison = _known(row.record) if row is not None else None
    if comparison is None:
        raise ComparisonNotFound(
            f"There is no comparison {comparison_id!r}.",
            hint="It may have been deleted; GET /api/v1/comparisons lists those there are.",
        )
    return comparison


def _known(record: object) -> Comparison | None:
    """None for what a newer version wrote and this one cannot use."""
    try:
        return Comparison.model_validate(record)
    except ValidationError:
        return None


def _columns(comparison: Comparison) -> dict[str, Any]:
    record = comparison.model_dump(mode="json")
    return {
        "title": storable(comparison.title),
        "record": record,
        "updated_at": comparison.updated_at,
    }


def _brief(comparison: Comparison) -> ComparisonBrief:
    return ComparisonBrief(
        id=comparison.id,
        title=comparison.title,
        columns=comparison.columns,
        questions=len(comparison.rounds),
        created_at=comparison.created_at,
        updated_at=comparison.updated_at,
    )
