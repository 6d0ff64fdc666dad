"""Room for the next column: its model takes the place of those that have answered before it."""

from collections.abc import Collection
from typing import Protocol

from core.errors import DeskError
from core.library import ModelLibrary
from core.load_settings import LoadSettings
from core.models import LoadOptions, ModelInfo
from core.planner import Planner
from core.swap import Swaps


class RoomMaker(Protocol):
    """Brings a model into memory in place of others, where both do not fit."""

    async def make(self, model: ModelInfo, *, among: Collection[str]) -> tuple[str, ...]:
        """Start to, if it must be and those of these full names would do; names of what goes."""
        ...


class Room:
    """Asks the planner, as the page does before a load; the swap waits for answers under way."""

    def __init__(
        self, library: ModelLibrary, planner: Planner, swaps: Swaps, settings: LoadSettings
    ) -> None:
        self._library = library
        self._planner = planner
        self._swaps = swaps
        self._settings = settings

    async def make(self, model: ModelInfo, *, among: Collection[str]) -> tuple[str, ...]:
        """Only models of the comparison itself ever go; without them, the load itself says why not."""
        if not model.loadable:
            return ()
        try:
            options = self._settings.over(
                model, LoadOptions(), takes=self._library.load_options(model)
            )
            plan = await self._planner.plan(model, options)
            if plan.loaded or plan.fits is not False or not plan.unload:
                return ()
            if not set(plan.unload) <= set(among):
                return ()
            going = [await self._library.resolve(name) for name in plan.unload]
            self._swaps.start(model, going, when="idle", options=options, for_answers=True)
        except DeskError:
            return ()  # the answer loads the model itself, and says what is wrong
        return tuple(each.name for each in going)
