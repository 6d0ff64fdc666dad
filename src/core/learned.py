"""Learned: what this machine found out about its models, at hand without waiting."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.chats import TurnStats
from core.errors import StorageError
from core.models import LoadRecord
from core.ports import LoadHistory, SpeedHistory
from core.speeds import LearnedModel, Speed, SpeedRecord, expected, learned_model, measured

log = logging.getLogger(__name__)

# Of each model and context, as on the disk.
KEPT_SPEEDS = 50
KEPT_LOADS = 24
# Models with their contexts; the one not heard of for longest is forgotten here, not on the disk.
KEPT_PAIRS = 1000
# Read back at a start.
READ_BACK = 5000

_Pair = tuple[str, int | None]


class _Known:
    """What is remembered of one model with one context, oldest first."""

    __slots__ = ("loads", "speeds")

    def __init__(self) -> None:
        self.speeds: deque[SpeedRecord] = deque(maxlen=KEPT_SPEEDS)
        self.loads: deque[LoadRecord] = deque(maxlen=KEPT_LOADS)


class Learned:
    """Remembers speeds and loads; answers from memory."""

    def __init__(self, speeds: SpeedHistory, loads: LoadHistory) -> None:
        self._speeds = speeds
        self._loads = loads
        self._known: dict[_Pair, _Known] = {}
        self._by_model: dict[str, list[_Pair]] = {}
        self._expected: dict[_Pair, Speed] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Read what was learned before. Without a disk nothing was learned."""
        try:
            speeds = await self._speeds.newest_speeds(READ_BACK)
            loads = await self._loads.newest_loads(READ_BACK)
        except StorageError as error:
            log.warning("what was learned could not be read: %s", error.message)
            return
        for load in reversed(loads):
            self.loaded(load)
        for speed in reversed(speeds):
            self._take(speed)

    # -- told -------------------------------------------------------------------------------------

    def answered(
        self,
        model_id: str,
        context_length: int | None,
        stats: TurnStats | None,
        timings: Mapping[str, Any] | None = None,
    ) -> None:
        """An answer of this model (full name) ended. What is too short says nothing.

        `timings` are llama.cpp's own, where the server sent them.
        """
        if stats is None:
            return
        record = measured(model_id, context_length, stats, timings, time.time())
        if record.telling:
            self.note([record])

    def note(self, records: Sequence[SpeedRecord]) -> None:
        """Remember these; they are written down behind our back."""
        if not records:
            return
        for record in records:
            self._take(record)
        task = asyncio.create_task(self._keep(records), name="speeds")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def loaded(self, record: LoadRecord) -> None:
        """A load went well. Who tells us keeps it on the disk."""
        pair = (record.model_id, record.context_length)
        self._of(pair).loads.append(record)
        self._forget(record.model_id)

    # -- asked ------------------------------------------------------------------------------------

    def speed_of(self, full_name: str, context_length: int | None = None) -> Speed | None:
        """What to expect of this model; None if nothing is known. Costs a look-up.

        What was measured with this context counts first, then what was with any.
        """
        asked = (full_name, context_length)
        if (found := self._expected.get(asked)) is not None:
            return found
        pairs = self._by_model.get(full_name)
        if not pairs:
            return None
        found = self._reckoned(full_name, context_length, pairs)
        self._expected[asked] = found
        return found

    def load_seconds(self, full_name: str) -> float | None:
        """How long its loads take; None if there was none."""
        speed = self.speed_of(full_name)
        return speed.load_seconds if speed else None

    def table(self, models: Iterable[str] = ()) -> tuple[LearnedModel, ...]:
        """Everything by model and context, of these models or of all, the newest first."""
        wanted = set(models)
        rows = [
            learned_model(model_id, context, list(known.speeds), list(known.loads))
            for (model_id, context), known in self._known.items()
            if not wanted or model_id in wanted
        ]
        return tuple(sorted(rows, key=lambda row: row.last_at, reverse=True))

    async def settled(self) -> None:
        """Return when everything so far is written down."""
        await asyncio.gather(*self._writing)

    async def aclose(self) -> None:
        # Not cancelled: a write that is broken off in the middle may keep the database locked.
        await self.settled()

    # -- inside -----------------------------------------------------------------------------------

    def _reckoned(self, full_name: str, context: int | None, pairs: list[_Pair]) -> Speed:
        whole = self._all(pairs)
        exact = self._known.get((full_name, context)) if context is not None else None
        if exact is None:
            return whole
        mine = expected(list(exact.speeds), list(exact.loads))
        known = {name: value for name, value in mine.model_dump().items() if value is not None}
        return whole.model_copy(update=known | {"samples": mine.samples or whole.samples})

    def _all(self, pairs: list[_Pair]) -> Speed:
        known = [self._known[pair] for pair in pairs]
        speeds = sorted((s for each in known for s in each.speeds), key=lambda s: s.at)
        loads = sorted((load for each in known for load in each.loads), key=lambda load: load.at)
        return expected(speeds, loads)

    def _take(self, record: SpeedRecord) -> None:
        self._of((record.model_id, record.context_length)).speeds.append(record)
        self._forget(record.model_id)

    def _of(self, pair: _Pair) -> _Known:
        known = self._known.pop(pair, None)
        if known is None:
            known = _Known()
            self._by_model.setdefault(pair[0], []).append(pair)
        self._known[pair] = known  # the last heard of is last
        if len(self._known) > KEPT_PAIRS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._by_model[oldest[0]].remove(oldest)
            if not self._by_model[oldest[0]]:
                del self._by_model[oldest[0]]
            self._forget(oldest[0])
        return known

    def _forget(self, model_id: str) -> None:
        """What was reckoned of it is old now."""
        for asked in [asked for asked in self._expected if asked[0] == model_id]:
            del self._expected[asked]

    async def _keep(self, records: Sequence[SpeedRecord]) -> None:
        try:
            await self._speeds.add_speeds(records)
        except StorageError as error:
            log.warning("how fast an answer was could not be kept: %s", error.message)
