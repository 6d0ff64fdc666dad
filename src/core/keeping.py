"""Keeping: what is thrown away by itself, at the start and once a day: deleted chats, old runs."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from core.errors import DeskError
from core.ports import ChatStore
from core.runs_service import RunService

log = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600.0
DELETED_CHATS_KEPT_SECONDS = 30 * DAY_SECONDS


class Keeping:
    """Throws away what nobody can bring back any more. What a person sees in a chat is never old."""

    def __init__(
        self,
        chats: ChatStore,
        runs: RunService,
        keep_days: int,
        *,
        day_seconds: float = DAY_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`keep_days`: how long runs outside of chats stay; 0 is for ever."""
        self._chats = chats
        self._runs = runs
        self._keep_days = keep_days
        self._day_seconds = day_seconds
        self._clock = clock
        self._changed = asyncio.Event()

    def follow(self, keep_days: int) -> None:
        """From now on this."""
        if keep_days != self._keep_days:
            self._keep_days = keep_days
            self._changed.set()

    async def run(self) -> None:
        """Look at once, once a day, and whenever the rule changes, until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self.look()
            except DeskError as error:
                log.warning("old runs could not be removed: %s", error.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._day_seconds):
                    await self._changed.wait()

    async def look(self) -> None:
        """Throw away what has to go now. Raises StorageError."""
        await self._chats.purge_deleted(before=self._clock() - DELETED_CHATS_KEPT_SECONDS)
        keep = self._keep_days * DAY_SECONDS
        gone = await self._runs.purge(keep_seconds=keep or None)
        if gone:
            log.info("%d runs were removed for good", gone)
