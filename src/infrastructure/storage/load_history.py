"""What loads took: `core.ports.LoadHistory` in SQL, in the database of the chats."""

from typing import Any, Final

from anyio import CancelScope, Lock
from sqlalchemy import Select, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from core.models import LoadRecord
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.schema import loads

# Of each model and context: enough for a middle that one disturbed measurement does not move.
KEPT: Final = 5
_NEWEST_FIRST: Final = select(*(each for each in loads.c if each.name != "seq")).order_by(
    loads.c.seq.desc()
)


class SqlLoadHistory:
    """Loads of the past. Writers queue for the lock they are given."""

    def __init__(self, engine: AsyncEngine, lock: Lock) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._lock = lock

    async def add_load(self, record: LoadRecord) -> None:
        """Keep it, and of its model and context only the last few. Raises StorageError."""
        same = (
            loads.c.model_id == record.model_id,
            loads.c.context_length.is_not_distinct_from(record.context_length),
        )
        newest = select(loads.c.seq).where(*same).order_by(loads.c.seq.desc()).limit(KEPT)
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    await connection.execute(insert(loads).values(record.model_dump()))
                    await connection.execute(delete(loads).where(*same, loads.c.seq.not_in(newest)))

    async def loads(self, model_id: str) -> list[LoadRecord]:
        """Those of this full name, newest first. Raises StorageError."""
        return await self._found(_NEWEST_FIRST.where(loads.c.model_id == model_id))

    async def newest_load(self) -> LoadRecord | None:
        """The last one of any model. Raises StorageError."""
        found = await self._found(_NEWEST_FIRST.limit(1))
        return found[0] if found else None

    async def newest_loads(self, limit: int) -> list[LoadRecord]:
        """Those of all models, newest first. Raises StorageError."""
        return await self._found(_NEWEST_FIRST.limit(limit))

    async def _found(self, wanted: Select[Any]) -> list[LoadRecord]:
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(wanted)).mappings().all()
        return [LoadRecord.model_validate(dict(row)) for row in rows]
