"""Gate: the way to one provider, with its breaker and its line."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from core.breaker import Breaker
from core.errors import DeskError
from core.line import Line, OnPlace
from core.providers import ProviderConfig


class Passage:
    """One request on its way."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self.answered = False

    def first_byte(self) -> None:
        """The provider answers. Saying it again changes nothing."""
        if not self.answered:
            self.answered = True
            self._breaker.succeeded()


class Gate:
    """Before one provider."""

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config
        self.breaker = Breaker(config.name)
        self.line = Line(config.name, parallel=config.parallel)

    @asynccontextmanager
    async def passage(self, on_place: OnPlace | None = None) -> AsyncGenerator[Passage]:
        """Go through for one request, and say when the first byte came.

        Raises ProviderResting at once while the provider is left alone, ProviderBusy when too many
        wait. A DeskError that leaves the block before the first byte counts against the provider.
        """
        self.breaker.check()
        async with self.line.turn(on_place):
            self.breaker.enter()
            passage = Passage(self.breaker)
            try:
                yield passage
            except DeskError as error:
                if not passage.answered:
                    self.breaker.failed(error)
                raise
            except BaseException:
                if not passage.answered:
                    self.breaker.abandoned()
                raise
            passage.first_byte()
