"""How models are to be loaded: `core.ports.LoadSettingsStore` in SQL, in the database of the chats."""

from anyio import CancelScope, Lock
from pydantic import ValidationError
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from core.models import LoadOptions
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.schema import load_settings


class SqlLoadSettings:
    """One row a model. Writers queue for the lock they are given."""

    def __init__(self, engine: AsyncEngine, lock: Lock) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._lock = lock

    async def load_settings(self) -> dict[str, LoadOptions]:
        """All of them, by full name. Raises StorageError."""
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(select(load_settings))).all()
        return {row.model_id: options for row in rows if (options := _read(row.options))}

    async def keep_load_settings(self, model_id: str, options: LoadOptions | None) -> None:
        """Replace those of this model; None forgets them. Raises StorageError."""
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    mine = load_settings.c.model_id == model_id
                    await connection.execute(delete(load_settings).where(mine))
                    if options is not None:
                        row = {
                            "model_id": model_id,
                            "options": options.model_dump(exclude_none=True),
                        }
                        await connection.execute(insert(load_settings).values(row))


def _read(options: object) -> LoadOptions | None:
    """None for what a newer version wrote and this one cannot use."""
    try:
        return LoadOptions.model_validate(options)
    except ValidationError:
        return None
