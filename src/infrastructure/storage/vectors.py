"""Vectors of texts: `core.ports.VectorCache` in SQL, bounded, in the database of the chats."""

import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from anyio import CancelScope, Lock
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.embedding import Vector
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.schema import vectors

# About 80,000 texts with a small model.
LIMIT_BYTES: Final = 128 * 1024 * 1024
# Evicted down to this share, so that not every new vector evicts one.
LEFT: Final = 0.9
# A use is noted only when the last one noted is older than this: reading shall not cost a write.
FRESH_SECONDS: Final = 3600.0
EVICTED_AT_ONCE: Final = 5000


class SqlVectors:
    """Readers run side by side; writers queue for the lock they are given."""

    def __init__(
        self,
        engine: AsyncEngine,
        lock: Lock,
        *,
        limit: int = LIMIT_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._lock = lock
        self._limit = limit
        self._clock = clock
        self._bytes: int | None = None

    async def vectors(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """Those that are kept. Raises StorageError."""
        asked = select(vectors).where(vectors.c.key.in_(set(keys)))
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(asked)).all()
        now = self._clock()
        if old := [row.key for row in rows if row.used_at < now - FRESH_SECONDS]:
            async with self._lock:
                with CancelScope(shield=True), storage_faults():
                    async with self._writer.begin() as connection:
                        used = update(vectors).where(vectors.c.key.in_(old))
                        await connection.execute(used.values(used_at=now))
        return {row.key: unpacked(row.vector) for row in rows}

    async def keep_vectors(self, entries: Mapping[bytes, Vector]) -> None:
        """Keep them; what was not used for longest goes when there are too many. Raises StorageError."""
        if not entries:
            return
        now = self._clock()
        blobs = {key: packed(vector) for key, vector in entries.items()}
        rows = [{"key": key, "vector": blob, "used_at": now} for key, blob in blobs.items()]
        added = sum(map(len, blobs.values()))
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    await connection.execute(insert(vectors).on_conflict_do_nothing(), rows)
                    await self._bound(connection, added)

    async def _bound(self, connection: AsyncConnection, added: int) -> None:
        if self._bytes is None:
            self._bytes = await _size(connection)
        else:
            self._bytes += added
        if self._bytes <= self._limit:
            return
        # Counted exactly before anything goes: what was there already was added twice.
        self._bytes = await _size(connection)
        oldest = (
            select(vectors.c.key, func.length(vectors.c.vector).label("size"))
            .order_by(vectors.c.used_at, vectors.c.key)
            .limit(EVICTED_AT_ONCE)
        )
        while self._bytes > self._limit * LEFT:
            going = []
            for row in await connection.execute(oldest):
                going.append(row.key)
                self._bytes -= row.size
                if self._bytes <= self._limit * LEFT:
                    break
            await connection.execute(delete(vectors).where(vectors.c.key.in_(going)))


async def _size(connection: AsyncConnection) -> int:
    size: int | None = await connection.scalar(select(func.sum(func.length(vectors.c.vector))))
    return size or 0


def packed(vector: Vector) -> bytes:
    """As 32-bit floats."""
    return array("f", vector).tobytes()


def unpacked(blob: bytes) -> Vector:
    """The other way round."""
    return tuple(array("f", blob))
