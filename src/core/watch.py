"""ProviderWatch: knows how each provider is, and wakes our own engine when none answers."""

import asyncio
import logging
import time
from typing import Literal

from core.library import ModelLibrary
from core.models import ProviderHealth
from core.ports import Provider
from core.standby import StandbyProvider

log = logging.getLogger(__name__)

EmbeddedMode = Literal["auto", "off", "always"]

# While somebody looks at a page, and otherwise.
BUSY_SECONDS = 2.0
IDLE_SECONDS = 15.0
LOOKED_AT_SECONDS = 20.0
# A provider that does not say how it is within this time is as good as away.
HEALTH_SECONDS = 4.0


class ProviderWatch:
    """Looks at every provider again and again. `run` it in a task."""

    def __init__(
        self, library: ModelLibrary, *, standby: StandbyProvider | None, mode: EmbeddedMode
    ) -> None:
        self._library = library
        self._standby = standby if mode != "off" else None
        self._mode = mode
        self._healths: dict[str, ProviderHealth] = {}
        self._looked_at = float("-inf")
        self._wanted = asyncio.Event()
        self.looked = asyncio.Event()
        """Set after the first look."""

    @property
    def healths(self) -> list[ProviderHealth]:
        """What the last look found; a resting engine is not worth a line."""
        return [health for health in self._healths.values() if health.state != "off"]

    @property
    def embedded_in_use(self) -> bool:
        """Whether our own engine stands in because no other provider is ready."""
        standby = self._standby
        return standby is not None and standby.awake and not self._other_ready()

    def someone_looks(self) -> None:
        """A page is open: look more often."""
        idle = time.monotonic() - self._looked_at > LOOKED_AT_SECONDS
        self._looked_at = time.monotonic()
        if idle:
            self._wanted.set()

    def hurry(self) -> None:
        """Look now: the providers are others."""
        self._wanted.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            self._wanted.clear()
            busy = time.monotonic() - self._looked_at < LOOKED_AT_SECONDS
            try:
                async with asyncio.timeout(BUSY_SECONDS if busy else IDLE_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def look(self) -> list[ProviderHealth]:
        """Ask every provider how it is, side by side, and act on it."""
        providers = self._library.providers
        found = await asyncio.gather(*(self._ask(provider) for provider in providers))
        changed = False
        for health in found:
            before = self._healths.get(health.provider)
            changed = changed or before is None or before.state != health.state
            self._healths[health.provider] = health
            if health.state in ("ready", "no_models"):
                self._library.seen_well(health.provider)
        self._forget_removed()
        await self._wake_or_rest()
        self.looked.set()
        await self._library.refresh(max_age=0.0 if changed else BUSY_SECONDS / 2)
        return self.healths

    def _forget_removed(self) -> None:
        there = {provider.name for provider in self._library.providers}
        self._healths = {name: h for name, h in self._healths.items() if name in there}

    async def _ask(self, provider: Provider) -> ProviderHealth:
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                return await provider.health()
        except TimeoutError:
            return ProviderHealth(
                provider=provider.name,
                kind=provider.kind,
                state="unreachable",
                url="",
                message=f"{provider.name} did not answer within {HEALTH_SECONDS:.0f} s.",
                checked_at=time.time(),
            )

    def _other_ready(self) -> bool:
        mine = self._standby.name if self._standby else None
        return any(h.state == "ready" for h in self._healths.values() if h.provider != mine)

    async def _wake_or_rest(self) -> None:
        standby = self._standby
        if standby is None:
            return
        if self._mode == "always" or not self._other_ready():
            if not standby.awake:
                log.info("no other provider is ready: starting the built-in engine")
            standby.wake()
        elif standby.awake and not await self._in_memory(standby):
            log.info("another provider is ready: the built-in engine rests")
            await standby.rest()

    async def _in_memory(self, standby: StandbyProvider) -> bool:
        """Whether the engine holds a model: somebody may be using it."""
        models = await self._library.models()
        return any(m.provider == standby.name and m.state != "not-loaded" for m in models)
