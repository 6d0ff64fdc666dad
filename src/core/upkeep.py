"""Upkeep: what becomes of models while nobody says anything: at the start, when idle, when many are loaded."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from core.errors import DeskError, ModelInUse
from core.library import ModelLibrary
from core.loads import Loads
from core.models import LoadOptions, ModelInfo
from core.planner import Planner
from core.value import Value

log = logging.getLogger(__name__)

OnStart = Literal["nothing", "reconnect", "last"]

LOOK_SECONDS = 5.0
# A provider may come up a little later than we do: the built-in engine always does.
START_LOOK_SECONDS = 1.0
START_LOOKS = 60


class UpkeepRules(Value):
    """What a person wants done without being asked. The defaults do nothing."""

    on_start: OnStart = "reconnect"
    """`nothing` leaves every model to a person; `reconnect` picks one that is loaded for new chats;
    `last` also loads the last model if none is loaded, and it fits."""
    idle_seconds: float | None = None
    """Unload what we loaded and nobody used for so long."""
    keep_bytes: int | None = None
    """Unload the longest unused of ours while all loaded models take more than this."""
    pinned: tuple[str, ...] = ()
    """Names of models that stay, full or bare."""


class Upkeep:
    """Follows the rules. Only models that we loaded are ever taken out of memory, and no busy one."""

    def __init__(
        self, library: ModelLibrary, loads: Loads, planner: Planner, rules: UpkeepRules
    ) -> None:
        self._library = library
        self._loads = loads
        self._planner = planner
        self._rules = rules
        self._since: dict[str, float] = {}
        self._changed = asyncio.Event()

    @property
    def picks_loaded(self) -> bool:
        """Whether a page that knows no model yet begins with one that is there."""
        return self._rules.on_start != "nothing"

    def follow(self, rules: UpkeepRules) -> None:
        """From now on these."""
        if rules != self._rules:
            self._rules = rules
            self._changed.set()

    async def run(self) -> None:
        """Look until cancelled, as long as there is a rule to look for."""
        if self._rules.on_start == "last":
            await self._start()
        while True:
            ruled = self._rules.idle_seconds is not None or self._rules.keep_bytes is not None
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if ruled else None):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.look()
            except DeskError as error:
                log.warning("models could not be looked after: %s", error.message)

    async def look(self) -> None:
        """Unload what the rules say has to go now."""
        idle = await self._idle()
        limit, kept = self._rules.idle_seconds, self._rules.keep_bytes
        going = [m for m, seconds in idle if limit is not None and seconds >= limit]
        if kept is not None:
            staying = [m for m, _ in idle if m not in going]
            going += await self._beyond(kept, staying, gone=going)
        for model in going:
            try:
                job = self._library.start_unload(model)
            except ModelInUse:  # somebody began to use it just now
                continue
            log.info("unloading %s, which nobody uses", model.full_name)
            await job.ended.wait()

    async def load_last(self) -> bool:
        """Load the model that was loaded last; whether there is nothing more to try.

        Not done where a model is loaded already, or where it would not fit.
        """
        record = await self._loads.newest()
        models = await self._library.models()
        if record is None or any(m.loaded and m.loadable and m.kind == "llm" for m in models):
            return True
        model = next((m for m in models if m.full_name == record.model_id and m.loadable), None)
        if model is None or model.stale_since is not None:
            return False
        options = LoadOptions(context_length=record.context_length)
        plan = await self._planner.plan(model, options)
        if plan.fits is False:
            log.info("the last model is not loaded: %s", " ".join(plan.sentences))
        else:
            self._library.start_load(model, options)
        return True

    # -- inside ----------------------------------------------------------------------------------

    async def _start(self) -> None:
        for _ in range(START_LOOKS):
            try:
                if await self.load_last():
                    return
            except DeskError as error:
                log.warning("the last model could not be loaded: %s", error.message)
                return
            await asyncio.sleep(START_LOOK_SECONDS)

    async def _idle(self) -> list[tuple[ModelInfo, float]]:
        """Ours that are free and not pinned, with seconds since their last use, longest first."""
        now = time.monotonic()
        ours = set(self._loads.ours)
        self._since = {name: at for name, at in self._since.items() if name in ours}
        found = []
        for model in await self._library.models():
            if not model.loaded or not self._loads.is_ours(model):
                continue
            since = self._since.setdefault(model.full_name, now)
            used = self._library.used_at(model)
            if self._library.leased_by(model) or self._pinned(model):
                continue
            found.append((model, now - max(since, used or since)))
        return sorted(found, key=lambda each: each[1], reverse=True)

    def _pinned(self, model: ModelInfo) -> bool:
        names = {model.full_name.casefold(), model.id.casefold(), model.name.casefold()}
        return any(pin.casefold() in names for pin in self._rules.pinned)

    async def _beyond(
        self, limit: int, idle: Sequence[ModelInfo], *, gone: Sequence[ModelInfo]
    ) -> list[ModelInfo]:
        """Which of these have to go so that all loaded models take at most `limit` bytes."""
        sizes: dict[str, int] = {}
        for bar in (await self._planner.memory_map()).bars:
            for part in bar.slices:
                sizes[part.model_id] = sizes.get(part.model_id, 0) + part.bytes
        taken = sum(sizes.values()) - sum(sizes.get(m.full_name, 0) for m in gone)
        going = []
        for model in idle:
            if taken <= limit:
                break
            going.append(model)
            taken -= sizes.get(model.full_name, 0)
        return going
