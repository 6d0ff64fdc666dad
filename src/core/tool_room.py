"""How many tool servers run at once, and for how long one that nobody uses stays."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from core.errors import Conflict
from core.tool_life import ServerLife
from core.value import Value

log = logging.getLogger(__name__)


class ToolServersBusy(Conflict):
    """As many servers run as may, and each is in use."""

    code = "tool_servers_busy"


class ToolRules(Value):
    """What a person wants done about running tool servers without being asked."""

    idle_seconds: float | None = 15 * 60
    """End one that nobody used for so long; None: never."""
    max_running: int = 12
    """With so many up, the longest idle one makes room for the next."""


class ToolRoom:
    """Follows the rules. A server that a call or a run uses is never ended for them."""

    def __init__(
        self,
        lives: Callable[[], Iterable[ServerLife]],
        rules: ToolRules,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lives = lives
        self.clock = clock
        self.rules = rules
        self._admitting = asyncio.Lock()

    async def admit(self, life: ServerLife) -> None:
        """Make room for this one, which counts as running from now on.

        Raises ToolServersBusy where all the room is taken by servers in use.
        """
        async with self._admitting:
            while len(running := self._running()) >= self.rules.max_running:
                if not await self._end_longest_idle(running, "to make room for another"):
                    names = ", ".join(sorted(each.entry.name for each in running))
                    raise ToolServersBusy(
                        f"{len(running)} tool servers run already, which is the most there may be, "
                        f"and each is in use: {names}.",
                        hint="Wait until one of them is free, or raise tools.max_running.",
                    )
            life.admitted = True

    async def look(self) -> None:
        """End what the rules say has to go now."""
        limit = self.rules.idle_seconds
        if limit is not None:
            now = self.clock()
            for life in self._running():
                if now - life.used_at >= limit:
                    await self._end(life, f"nobody used it for {_span(limit)}")
        async with self._admitting:
            while len(running := self._running()) > self.rules.max_running:
                if not await self._end_longest_idle(running, "fewer may run now"):
                    break

    def _running(self) -> list[ServerLife]:
        return [life for life in self._lives() if life.running]

    async def _end_longest_idle(self, running: Iterable[ServerLife], why: str) -> bool:
        for life in sorted(running, key=lambda each: each.used_at):
            if await self._end(life, why):
                return True
        return False

    async def _end(self, life: ServerLife, why: str) -> bool:
        ended = await life.fall_asleep(f"It was ended: {why}.")
        if ended:
            log.info("tool server %s was ended: %s", life.entry.name, why)
        return ended


def _span(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:g} seconds"
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"
