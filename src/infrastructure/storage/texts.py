"""Keeps half-written answers: everyone who waits for the disk shares one commit."""

from dataclasses import dataclass, field

from anyio import CancelScope, Lock
from sqlalchemy import bindparam, update
from sqlalchemy.ext.asyncio import AsyncEngine

from core.errors import StorageError
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.rows import storable
from infrastructure.storage.schema import messages

# A late text must not overwrite a finished message, hence the status.
_WRITE = (
    update(messages)
    .where(messages.c.id == bindparam("of"), messages.c.status == "writing")
    .values(content=bindparam("text"), reasoning=bindparam("thought"))
)


@dataclass(slots=True)
class _Batch:
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    written: bool = False
    error: StorageError | None = None


class TextWriter:
    """Writes texts of many answers together.

    Whoever gets the lock first writes what all who wait behind it have brought; they then find their
    work done. So a lone writer waits for nobody, and a hundred cost two commits.
    """

    def __init__(self, engine: AsyncEngine, lock: Lock) -> None:
        self._engine = engine
        self._lock = lock
        self._batch = _Batch()

    async def write(self, message_id: str, *, content: str, reasoning: str) -> None:
        """Return when the text is committed. Raises StorageError."""
        batch = self._batch
        batch.texts[message_id] = (storable(content), storable(reasoning))
        async with self._lock:
            if not batch.written and batch.error is None:
                # From here on, newcomers start the next batch.
                self._batch = _Batch()
                with CancelScope(shield=True):
                    await self._commit(batch)
        if batch.error is not None:
            raise StorageError(batch.error.message, hint=batch.error.hint) from batch.error

    async def _commit(self, batch: _Batch) -> None:
        rows = [
            {"of": message_id, "text": content, "thought": reasoning}
            for message_id, (content, reasoning) in batch.texts.items()
        ]
        try:
            with storage_faults():
                async with self._engine.begin() as connection:
                    await connection.execute(_WRITE, rows)
        except StorageError as error:
            batch.error = error
        else:
            batch.written = True
