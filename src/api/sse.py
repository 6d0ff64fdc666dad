"""A job's events as Server-Sent Events."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import orjson
from fastapi import Request
from starlette.responses import StreamingResponse

from core.eventlog import Event
from core.jobs import Job

MEDIA_TYPE = "text/event-stream"
# Proxies must pass each event on at once.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def wants_events(request: Request) -> bool:
    """Whether the caller asked for the events instead of a receipt."""
    return MEDIA_TYPE in request.headers.get("accept", "")


def stream_job(
    job: Job,
    *,
    after: int = 0,
    merge_ms: int = 0,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """The job's events behind number `after`. Leaving only detaches."""
    return StreamingResponse(
        _frames(job, after=after, merge_seconds=merge_ms / 1000),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={**HEADERS, "X-Job-Id": job.id, **(headers or {})},
    )


async def _frames(job: Job, *, after: int, merge_seconds: float) -> AsyncGenerator[bytes]:
    last_sign = time.monotonic()
    async with aclosing(job.watch(after=after, merge_seconds=merge_seconds)) as batches:
        async for batch in batches:
            if batch:
                last_sign = time.monotonic()
                yield b"".join(frame(event) for event in batch)
            else:
                silent = round(time.monotonic() - last_sign, 1)
                yield b"event: tick\ndata: %s\n\n" % orjson.dumps(
                    {"type": "tick", "seconds": silent}
                )


def frame(event: Event) -> bytes:
    """One event on the wire; `id` is what `Last-Event-ID` resumes from."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.number,
        event.type.encode(),
        orjson.dumps(event.data),
    )
