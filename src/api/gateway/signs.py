"""Signs of life: comment lines for a streaming client while its model loads or it waits in line."""

import asyncio
from contextlib import suppress

from api.gateway.reply import Reply
from api.gateway.upstream import EVENT_STREAM
from core.jobs import Job

# Clients give up on a silent stream after tens of seconds; a short wait needs no sign, and until
# the first one another model may still take over.
FIRST_SECONDS = 3.0
NEXT_SECONDS = 2.0


class Signs:
    """Sent from `begin` on, every few seconds, until `stop`."""

    def __init__(self, reply: Reply, job: Job, *, wanted: bool) -> None:
        self._reply = reply
        self._job = job
        self._wanted = wanted
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The wait begins."""
        if self._wanted:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FIRST_SECONDS, self._first)

    async def stop(self) -> None:
        """The wait is over: nothing more is sent when this returns."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _first(self) -> None:
        self._task = asyncio.create_task(self._send(), name="signs of life")

    async def _send(self) -> None:
        while True:
            if not self._reply.started:
                await self._reply.start(200, EVENT_STREAM.encode())
            await self._reply.piece(b": %b\n\n" % self._words().encode())
            await asyncio.sleep(NEXT_SECONDS)

    def _words(self) -> str:
        info = self._job.info
        if info.phase == "loading" and info.progress is not None:
            return f"loading {info.progress:.0%}".replace("%", " %")
        return f"{info.phase or 'waiting'} {info.stage or ''}".strip()
