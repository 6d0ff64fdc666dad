"""Waiting for the next event of a stream, or for a silence, at a cost that suits one token."""

import asyncio


class Bell:
    """Wakes one waiting task. One timer outlives many rings: setting one a token would cost more."""

    def __init__(self, silence: float) -> None:
        """`silence` in seconds; call it inside the running loop, and close it."""
        self._silence = silence
        self._loop = asyncio.get_running_loop()
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Future[bool] | None = None

    async def wait(self) -> bool:
        """True at the next ring; False when there was none for the whole silence.

        A ring that nobody waited for is not kept: look for what is new first, then wait.
        """
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._since + self._silence, self._look)
        self._waiting = self._loop.create_future()
        return await self._waiting

    def ring(self) -> None:
        """Something happened."""
        self._wake(rung=True)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self, *, rung: bool) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(rung)

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None:
            return  # the next wait sets it anew
        due = self._since + self._silence
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._wake(rung=False)
