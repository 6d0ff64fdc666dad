"""One provider's list of models: cached, refreshed by one caller for all, never wrong for long."""

import asyncio
import time

from core.errors import DeskError
from core.models import ModelInfo
from core.ports import Provider


class Shelf:
    """The last good list of a provider, its age, and what went wrong since."""

    def __init__(self, provider: Provider, *, deadline: float = 10.0) -> None:
        self.provider = provider
        self.models: tuple[ModelInfo, ...] = ()
        self.error: DeskError | None = None
        self.fetched_at = float("-inf")
        """Monotonic seconds of the last answer, good or bad."""
        self.revision = 0
        self.hits = 0
        self.misses = 0
        self._deadline = deadline
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def age(self) -> float:
        return time.monotonic() - self.fetched_at

    async def fresh(self, *, max_age: float) -> None:
        """Return when the list is at most `max_age` seconds old, or could not be had.

        Never raises for a provider that fails: `error` says so and the last good list stays.
        """
        if self.age <= max_age:
            self.hits += 1
            return
        self.misses += 1
        while True:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = asyncio.create_task(self._refresh())
            mine = self._refreshing
            # Shielded: one caller that leaves must not take the list from the others.
            await asyncio.shield(mine)
            if mine is self._refreshing or self.age <= max_age:
                return
            # Overtaken by `forget`: what it saw is of before a change, and was not kept.

    def forget(self) -> None:
        """The next look must ask the provider: we changed something there."""
        self.fetched_at = float("-inf")
        # A refresh under way may have read the list before the change.
        self._refreshing = None

    async def _refresh(self) -> None:
        me = asyncio.current_task()
        models: tuple[ModelInfo, ...] | None = None
        error: DeskError | None = None
        try:
            async with asyncio.timeout(self._deadline):
                models = tuple(await self.provider.list_models())
        except DeskError as problem:
            error = problem
        except TimeoutError:
            error = DeskError(f"{self.provider.name} did not list its models in time.")
        if self._refreshing is not me:  # overtaken by `forget`
            return
        self._take(models, error)

    def _take(self, models: tuple[ModelInfo, ...] | None, error: DeskError | None) -> None:
        # A provider that is gone has no loaded models to offer: showing them would be a lie.
        new = models if models is not None else ()
        if new != self.models or (error is None) != (self.error is None):
            self.revision += 1
        self.models, self.error = new, error
        self.fetched_at = time.monotonic()

    async def aclose(self) -> None:
        if self._refreshing is not None and not self._refreshing.done():
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
