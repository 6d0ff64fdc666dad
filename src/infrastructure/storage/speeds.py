"""How fast models were: `core.ports.SpeedHistory` in SQL, in the database of the chats."""

from collections.abc import Sequence
from typing import Final

from anyio import CancelScope, Lock
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from core.speeds import SpeedRecord
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.schema import speeds

# Of each model and context.
KEPT: Final = 50
_NEWEST_FIRST: Final = select(*(each for each in speeds.c if each.name != "seq")).order_by(
    speeds.c.seq.desc()
)


class SqlSpeeds:
    """Speeds of the past. Writers queue for the lock they are given."""

    def __init__(self, engine: AsyncEngine, lock: Lock) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._lock = lock

    async def add_speeds(self, records: Sequence[SpeedRecord]) -> None:
        """Keep them, and of each model and context only the last ones. Raises StorageError."""
        if not records:
            return
        pairs = {(record.model_id, record.context_length) for record in records}
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    await connection.execute(
                        insert(speeds), [record.model_dump() for record in records]
                    )
                    for model_id, context in pairs:
                        same = (
                            speeds.c.model_id == model_id,
                            speeds.c.context_length.is_not_distinct_from(context),
                        )
                        newest = (
                            select(speeds.c.seq)
                            .where(*same)
                            .order_by(speeds.c.seq.desc())
                            .limit(KEPT)
                        )
                        await connection.execute(
                            delete(speeds).where(*same, speeds.c.seq.not_in(newest))
                        )

    async def newest_speeds(self, limit: int) -> list[SpeedRecord]:
        """Those of all models, newest first. Raises StorageError."""
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(_NEWEST_FIRST.limit(limit))).mappings().all()
        return [SpeedRecord.model_validate(dict(row)) for row in rows]
