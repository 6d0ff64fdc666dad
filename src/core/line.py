"""Line: lets so many in at once, the others wait in the order they came and know their place."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from core.errors import ProviderBusy

# More than this wait for an answer that nobody reads any more when it comes.
MAX_WAITING = 64

OnPlace = Callable[[int], None]


@dataclass(eq=False, slots=True)
class _Waiter:
    admitted: asyncio.Future[None]
    on_place: OnPlace | None


class Line:
    """Before one provider."""

    def __init__(self, name: str, *, parallel: int | None, bound: int = MAX_WAITING) -> None:
        """`parallel` None lets everybody in."""
        self._name = name
        self._parallel = parallel
        self._bound = bound
        self._inside = 0
        self._waiting: deque[_Waiter] = deque()

    @property
    def inside(self) -> int:
        return self._inside

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self, on_place: OnPlace | None = None) -> AsyncGenerator[None]:
        """Wait for one's turn, hold it while inside. `on_place` hears 1 for the next one.

        Raises ProviderBusy when too many wait already.
        """
        await self._enter(on_place)
        try:
            yield
        finally:
            self._inside -= 1
            self._admit()

    async def _enter(self, on_place: OnPlace | None) -> None:
        if self._parallel is None or (self._inside < self._parallel and not self._waiting):
            self._inside += 1
            return
        if len(self._waiting) >= self._bound:
            raise ProviderBusy(
                f"{self._name} is busy, and {self._bound} requests wait for it already.",
                hint="Try again in a while, or use a model of another provider.",
                retry_after=5.0,
            )
        waiter = _Waiter(asyncio.get_running_loop().create_future(), on_place)
        self._waiting.append(waiter)
        self._tell()
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self._tell()
            else:  # let in and called away at the same moment
                self._inside -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        let_in = False
        while self._waiting and (self._parallel is None or self._inside < self._parallel):
            waiter = self._waiting.popleft()
            self._inside += 1
            waiter.admitted.set_result(None)
            let_in = True
        if let_in:
            self._tell()

    def _tell(self) -> None:
        for place, waiter in enumerate(self._waiting, start=1):
            if waiter.on_place is not None:
                waiter.on_place(place)
