"""Runs: `core.runs_ports.RunStore` in SQL, in the database of the chats."""

import json
import time
import zlib
from collections.abc import Sequence
from typing import Any

import orjson
from anyio import CancelScope, Lock, to_thread
from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from core.eventlog import Event
from core.runs import AllowedTool, RunInfo, RunPage
from core.runs_errors import RunNotFound
from core.tools import ToolImage, ToolResult
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.rows import storable
from infrastructure.storage.schema import allowed_tools, chats, run_events, run_results, runs

# What stands in a row's `state` while the run can be brought back. Its record says what it was.
DELETED = "deleted"


class SqlRuns:
    """A row a run, a row an event, a row a result. Writers queue for the lock they are given."""

    def __init__(self, engine: AsyncEngine, lock: Lock) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._lock = lock

    async def add_run(self, run: RunInfo) -> None:
        """Keep a new one. Raises StorageError."""
        await self._write(insert(runs).values({"id": run.id, **_columns(run)}))

    async def write_run(self, run: RunInfo, events: Sequence[Event]) -> None:
        """Replace what is kept of it and add these events, in one transaction. Raises StorageError."""
        rows = [
            {"run_id": run.id, "number": event.number, "data": _text(event.data)}
            for event in events
        ]
        statements: list[tuple[Any, Any]] = [
            (update(runs).where(runs.c.id == run.id).values(_columns(run)), None)
        ]
        if rows:
            statements.append((insert(run_events), rows))
        await self._write_all(statements)

    async def run(self, run_id: str) -> RunInfo:
        """Raises RunNotFound, also for a deleted one, or StorageError."""
        record = await self._scalar(select(runs.c.record).where(_there(run_id)))
        if record is None:
            raise _no_run(run_id)
        return RunInfo.model_validate_json(record)

    async def runs(self, *, chat_id: str | None, limit: int, offset: int) -> RunPage:
        """Newest first, without steps and without those of deleted chats. Raises StorageError."""
        there = select(chats.c.id).where(chats.c.deleted_at.is_(None))
        known = or_(runs.c.chat_id.is_(None), runs.c.chat_id.in_(there))
        mine = [known if chat_id is None else and_(runs.c.chat_id == chat_id, known)]
        mine.append(runs.c.state != DELETED)
        page = (
            select(runs.c.record)
            .where(*mine)
            .order_by(runs.c.seq.desc())
            .limit(limit)
            .offset(offset)
        )
        counted = select(func.count()).select_from(runs).where(*mine)
        with storage_faults():
            async with self._engine.connect() as connection:
                records = (await connection.execute(page)).scalars().all()
                total = await connection.scalar(counted) or 0
        return RunPage(runs=tuple(map(_summary, records)), total=total)

    async def run_events(self, run_id: str, *, after: int) -> list[Event]:
        """Those behind this number. Raises StorageError."""
        wanted = (
            select(run_events.c.number, run_events.c.data)
            .where(run_events.c.run_id == run_id, run_events.c.number > after)
            .order_by(run_events.c.number)
        )
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(wanted)).all()
        return [_event(row.number, row.data) for row in rows]

    async def keep_result(self, run_id: str, call_id: str, result: ToolResult) -> None:
        """Whole, however long. Raises StorageError."""
        packed = await to_thread.run_sync(_packed, result)
        await self._write(
            insert(run_results).values({"run_id": run_id, "call_id": call_id, "result": packed})
        )

    async def result(self, run_id: str, call_id: str) -> ToolResult:
        """Raises RunNotFound or StorageError."""
        wanted = (
            select(run_results.c.result)
            .join(runs, runs.c.id == run_results.c.run_id)
            .where(_there(run_id), run_results.c.call_id == call_id)
        )
        packed = await self._scalar(wanted)
        if packed is None:
            raise RunNotFound(
                f"No result is kept of call {call_id!r} of run {run_id!r}.",
                hint="It may not have run.",
            )
        return await to_thread.run_sync(_unpacked, packed)

    async def delete_run(self, run_id: str) -> None:
        """Hide it; `restore_run` brings it back. Raises RunNotFound or StorageError."""
        gone = {"state": DELETED, "deleted_at": time.time()}
        if not await self._write(update(runs).where(_there(run_id)).values(gone)):
            raise _no_run(run_id)

    async def restore_run(self, run_id: str) -> RunInfo:
        """The run, no longer deleted. Raises RunNotFound once it is gone for good, or StorageError."""
        state = func.json_extract(runs.c.record, "$.state")
        await self._write(
            update(runs)
            .where(runs.c.id == run_id, runs.c.state == DELETED)
            .values(state=state, deleted_at=None)
        )
        return await self.run(run_id)

    async def purge_runs(self, *, before: float | None, deleted_before: float) -> int:
        """Remove for good what was deleted before this Unix time, whose chat is gone, or, outside of
        chats, began before that one; how many. Raises StorageError."""
        going = [
            and_(runs.c.state == DELETED, runs.c.deleted_at < deleted_before),
            and_(runs.c.chat_id.is_not(None), runs.c.chat_id.not_in(select(chats.c.id))),
        ]
        if before is not None:
            going.append(and_(runs.c.chat_id.is_(None), runs.c.created_at < before))
        return await self._write(delete(runs).where(runs.c.state != "running", or_(*going)))

    async def interrupt_runs(self, *, reason: str) -> int:
        """End every run that is kept as running; how many. Raises StorageError."""
        running = select(runs.c.record).where(runs.c.state == "running")
        with storage_faults():
            async with self._engine.connect() as connection:
                records = (await connection.execute(running)).scalars().all()
        now = time.time()
        ended = [_ended(RunInfo.model_validate_json(record), reason, now) for record in records]
        await self._write_all(
            [(update(runs).where(runs.c.id == run.id).values(_columns(run)), None) for run in ended]
        )
        return len(ended)

    async def allowed_tools(self) -> list[AllowedTool]:
        """Raises StorageError."""
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(select(allowed_tools))).mappings().all()
        return [
            AllowedTool(
                server=row["server"],
                tool=row["tool"] or None,
                fingerprint=row["fingerprint"],
                at=row["at"],
            )
            for row in rows
        ]

    async def allow_tool(self, allowed: AllowedTool) -> None:
        """Replaces what was kept of this tool. Raises StorageError."""
        row = {**allowed.model_dump(), "tool": allowed.tool or ""}
        await self._write_all(
            [(_of(allowed.server, allowed.tool), None), (insert(allowed_tools).values(row), None)]
        )

    async def forget_allowed(self, server: str, tool: str | None) -> None:
        """Raises StorageError."""
        await self._write(_of(server, tool))

    async def _scalar(self, statement: Any) -> Any:
        with storage_faults():
            async with self._engine.connect() as connection:
                return await connection.scalar(statement)

    async def _write(self, statement: Any) -> int:
        return await self._write_all([(statement, None)])

    async def _write_all(self, statements: Sequence[tuple[Any, Any]]) -> int:
        """All or none, even when the task is cancelled; how many rows the last one changed."""
        changed = 0
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    for statement, rows in statements:
                        result = await connection.execute(statement, rows)
                        changed = int(result.rowcount)
        return changed


def _of(server: str, tool: str | None) -> Any:
    return delete(allowed_tools).where(
        allowed_tools.c.server == server, allowed_tools.c.tool == (tool or "")
    )


def _there(run_id: str) -> Any:
    return and_(runs.c.id == run_id, runs.c.state != DELETED)


def _columns(run: RunInfo) -> dict[str, Any]:
    return {
        "chat_id": run.chat_id,
        "state": run.state,
        "record": _text(run.model_dump(mode="json")),
        "created_at": run.created_at,
    }


def _summary(record: str) -> RunInfo:
    return RunInfo.model_validate_json(record).model_copy(update={"steps": ()})


def _ended(run: RunInfo, reason: str, now: float) -> RunInfo:
    steps = tuple(
        step.model_copy(
            update={
                "calls": tuple(
                    call.model_copy(update={"state": "stopped"})
                    if call.state in ("proposed", "waiting", "running")
                    else call
                    for call in step.calls
                )
            }
        )
        for step in run.steps
    )
    output = next((step.why for step in reversed(steps) if step.why.strip()), "")
    return run.model_copy(
        update={
            "state": "interrupted",
            "reason": reason,
            "ended_at": now,
            "steps": steps,
            "approvals": (),
            "output": run.output or output,
        }
    )


def _text(data: dict[str, Any]) -> str:
    return storable(json.dumps(data, ensure_ascii=False, separators=(",", ":")))


def _event(number: int, data: str) -> Event:
    fields = orjson.loads(data)
    return Event(number, fields["type"], fields)


def _packed(result: ToolResult) -> bytes:
    fields = {
        "text": result.text,
        "is_error": result.is_error,
        "images": [image.model_dump() for image in result.images],
        "structured": None if result.structured is None else dict(result.structured),
    }
    return zlib.compress(_text(fields).encode(), level=3)


def _unpacked(packed: bytes) -> ToolResult:
    fields = orjson.loads(zlib.decompress(packed))
    images = tuple(ToolImage.model_validate(image) for image in fields.pop("images"))
    return ToolResult(**fields, images=images)


def _no_run(run_id: str) -> RunNotFound:
    return RunNotFound(f"There is no run {run_id!r}.", hint="See the list of runs.")
