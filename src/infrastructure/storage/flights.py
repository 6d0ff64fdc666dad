"""How answers were made: `core.recorder.FlightStore` in SQL, in the database of the chats."""

import json
import zlib
from collections.abc import Sequence
from typing import Any

from anyio import CancelScope, Lock
from anyio.lowlevel import checkpoint
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from core.flight import FlightRecord
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.rows import storable
from infrastructure.storage.schema import flights, messages


class SqlFlights:
    """One small compressed record a message. Writers queue for the lock they are given."""

    def __init__(self, engine: AsyncEngine, lock: Lock) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._lock = lock

    async def add_flights(self, records: Sequence[tuple[str, FlightRecord]]) -> None:
        """Keep each under its message's id, in one transaction. Raises StorageError."""
        if not records:
            return
        rows: list[dict[str, Any]] = []
        for key, record in records:
            rows.append({"message_id": key, "record": _packed(record)})
            await checkpoint()  # compressing many must not stop everybody else
        asked = [row["message_id"] for row in rows]
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    there = select(messages.c.id).where(messages.c.id.in_(asked))
                    known = set((await connection.execute(there)).scalars())
                    await connection.execute(delete(flights).where(flights.c.message_id.in_(asked)))
                    if kept := [row for row in rows if row["message_id"] in known]:
                        await connection.execute(insert(flights), kept)

    async def flight(self, message_id: str) -> tuple[str, FlightRecord] | None:
        """The chat's id and the record; None if there is none. Raises StorageError."""
        found = (
            select(messages.c.chat_id, flights.c.record)
            .join(messages, messages.c.id == flights.c.message_id)
            .where(flights.c.message_id == message_id)
        )
        with storage_faults():
            async with self._engine.connect() as connection:
                row = (await connection.execute(found)).first()
        return None if row is None else (row.chat_id, _unpacked(row.record))


def _packed(record: FlightRecord) -> bytes:
    fields = record.model_dump(exclude_defaults=True)
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    return zlib.compress(storable(text).encode())


def _unpacked(record: bytes) -> FlightRecord:
    return FlightRecord.model_validate_json(zlib.decompress(record))
