"""One provider's list of models: cached, refreshed by one caller for all, never wrong for long."""

import asyncio
import time

from core.errors import DeskError, ProviderTimeout
from core.models import ModelInfo
from core.ports import Provider
from core.providers import ProviderConfig
from core.retries import retried

# A list that is used at this share of its age is renewed in the background, so that nobody waits.
AHEAD_SHARE = 0.8
# A list that is asked for at every moment needs no renewing ahead of a need.
AHEAD_SECONDS = 10.0
# For how long the models of a provider that is gone are still shown.
STALE_KEPT_SECONDS = 24 * 3600.0


class Shelf:
    """The last good list of a provider, its age, and what went wrong since."""

    def __init__(self, provider: Provider, config: ProviderConfig) -> None:
        self.provider = provider
        self.config = config
        self.models: tuple[ModelInfo, ...] = ()
        """While `error` is set those of the last good list, as stale: none is loaded for sure."""
        self.error: DeskError | None = None
        self.fetched_at = float("-inf")
        """Monotonic seconds of the last answer, good or bad."""
        self.listed_at: float | None = None
        """Unix seconds of the last good list."""
        self.revision = 0
        self.hits = 0
        self.misses = 0
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def age(self) -> float:
        return time.monotonic() - self.fetched_at

    def at_hand(self, max_age: float) -> bool:
        """Whether the list is young enough to be used as it is, which counts as a hit."""
        age = self.age
        if age > max_age:
            return False
        self.hits += 1
        if age > max_age * AHEAD_SHARE and age > AHEAD_SECONDS:
            self._begin()
        return True

    async def fresh(self, *, max_age: float) -> None:
        """Return when the list is at most `max_age` seconds old, or could not be had.

        Never raises for a provider that fails: `error` says so and the last good list stays.
        """
        if self.at_hand(max_age):
            return
        self.misses += 1
        while True:
            mine = self._begin()
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

    def _begin(self) -> asyncio.Task[None]:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name=f"list {self.config.name}")
        return self._refreshing

    async def _refresh(self) -> None:
        me = asyncio.current_task()
        models: tuple[ModelInfo, ...] | None = None
        error: DeskError | None = None
        try:
            async with asyncio.timeout(self.config.timeout_seconds):
                models = tuple(await self._list())
        except DeskError as problem:
            error = problem
        except TimeoutError:
            error = ProviderTimeout(
                f"{self.provider.name} did not list its models within"
                f" {self.config.timeout_seconds:g} s.",
                hint="It may be busy with a load, or hang. Look at its own window or log.",
            )
        if self._refreshing is not me:  # overtaken by `forget`
            return
        self._take(models, error)

    async def _list(self) -> list[ModelInfo]:
        # Where nobody answered the last time, trying again and again only delays saying so.
        attempts = self.config.retry_attempts if self.error is None and self.listed_at else 0
        return await retried(self.provider.list_models, attempts=attempts)

    def _take(self, models: tuple[ModelInfo, ...] | None, error: DeskError | None) -> None:
        if models is not None:
            self.listed_at = time.time()
            new = models
        else:
            new = self._stale()
        if new != self.models or (error is None) != (self.error is None):
            self.revision += 1
        self.models, self.error = new, error
        self.fetched_at = time.monotonic()

    def _stale(self) -> tuple[ModelInfo, ...]:
        """The last good list, with nothing in it that only the provider could know by now."""
        if self.listed_at is None or time.time() - self.listed_at > STALE_KEPT_SECONDS:
            return ()
        unknown = {"instances": (), "state": "not-loaded", "stale_since": self.listed_at}
        return tuple(
            model if model.stale_since is not None else model.model_copy(update=unknown)
            for model in self.models
        )

    async def aclose(self) -> None:
        if self._refreshing is not None and not self._refreshing.done():
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
