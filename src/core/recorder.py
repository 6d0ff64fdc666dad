"""FlightRecorder: writes down how each answer is made, and keeps it behind the answer's end."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Protocol

from core.chats import Message
from core.errors import DeskError, FlightNotFound
from core.flight import Flight, FlightRecord, kept_request, told
from core.hardware import HardwareSnapshot
from core.jobs import Job
from core.models import ProviderKind
from core.monitor import HardwareMonitor
from core.ports import ChatStore
from core.redaction import Redaction
from core.trace import Tape
from core.wire import WireLog

log = logging.getLogger(__name__)

# After an answer's end, how long to wait for one more sample of the machine.
SETTLE_SECONDS = 2.5


class FlightStore(Protocol):
    """Where flights are kept, each with its message. Raises StorageError when the disk fails."""

    async def add_flights(self, records: Sequence[tuple[str, FlightRecord]]) -> None:
        """Keep each under its message's id; those whose message is gone are left out."""
        ...

    async def flight(self, message_id: str) -> tuple[str, FlightRecord] | None:
        """The chat's id and the record; None if there is none."""
        ...


class Recording:
    """One answer while it is made."""

    def __init__(self, job: Job, history: Sequence[Message]) -> None:
        self.wire = WireLog()
        self.chat_id = job.chat_id or ""
        self.message_id = job.message_id or ""
        self.tape = Tape(job.timeline.zero)
        self._timeline = job.timeline
        self._provider = ""
        self._kind: ProviderKind = "lmstudio"
        self._history = history

    def asks(self, provider: str, kind: ProviderKind) -> None:
        """Who is asked from now on."""
        self._provider, self._kind = provider, kind

    @property
    def over(self) -> bool:
        return self._timeline.closed

    def record(self, redaction: Redaction) -> FlightRecord:
        """What there is of it, without secrets."""
        sent = self.wire.request
        return FlightRecord(
            started_at=round(self._timeline.started_at, 3),
            seconds=self._timeline.seconds,
            provider=self._provider,
            provider_kind=self._kind,
            phases=self._timeline.spans(),
            trace=self.tape.trace(),
            request=kept_request(sent, self._history, redaction) if sent else None,
            response=redaction.facts(self.wire.response),
        )


class FlightRecorder:
    """Costs an answer its beginning and its end, and nothing a token."""

    def __init__(
        self,
        store: ChatStore,
        flights: FlightStore,
        monitor: HardwareMonitor,
        *,
        secrets: Iterable[str] = (),
    ) -> None:
        """`secrets` are removed wherever they turn up."""
        self._store = store
        self._flights = flights
        self._monitor = monitor
        self._redaction = Redaction(secrets)
        self._recordings: dict[str, Recording] = {}
        """By message: those running, and those over but not written yet."""
        self._over = asyncio.Event()
        self._sampled = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False

    def keep_out(self, secrets: Iterable[str]) -> None:
        """These are removed from now on too."""
        self._redaction.learn(secrets)

    def begin(self, recording: Recording) -> None:
        """From now on it gets the machine's samples."""
        self._recordings[recording.message_id] = recording
        if (newest := self._monitor.newest) is not None:
            recording.tape.add(newest)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="flight recorder")

    def end(self) -> None:
        """A recording is over; it is written soon, together with others."""
        self._over.set()

    async def run(self) -> None:
        """Follow the machine until cancelled."""
        async with aclosing(self._monitor.watch()) as samples:
            async for sample in samples:
                self._see(sample)

    async def flight(self, message_id: str) -> Flight:
        """How this answer was made. Raises FlightNotFound, and ChatNotFound for a deleted chat."""
        if (recording := self._recordings.get(message_id)) is not None:
            chat_id, record = recording.chat_id, recording.record(self._redaction)
        elif (found := await self._flights.flight(message_id)) is not None:
            chat_id, record = found
        else:
            raise FlightNotFound(
                "There is no record of how this answer was made.",
                hint="Copied and imported answers have none, nor have those from before a crash.",
            )
        await self._store.chat(chat_id)
        message = await self._store.message(chat_id, message_id)
        history = await self._store.branch(chat_id, message.parent_id)
        return told(record, message, history, self._redaction)

    async def aclose(self) -> None:
        """Write what is not written yet. The jobs have ended by now."""
        self._closing = True
        self._over.set()
        self._sampled.set()
        if self._keeper is not None:
            # Not cancelled: a write that is broken off in the middle may keep the database locked.
            await asyncio.wait([self._keeper])

    def _see(self, sample: HardwareSnapshot) -> None:
        for recording in self._recordings.values():
            recording.tape.add(sample)
        self._sampled.set()

    async def _keep(self) -> None:
        while not self._closing:
            await self._over.wait()
            if not self._closing:
                self._sampled.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(SETTLE_SECONDS):
                        await self._sampled.wait()
            self._over.clear()
            await self._write()
        await self._write()  # what ended while the last ones were written

    async def _write(self) -> None:
        over = {key: each for key, each in self._recordings.items() if each.over}
        records = []
        try:
            for key, recording in over.items():
                records.append((key, recording.record(self._redaction)))
                await asyncio.sleep(0)  # a hundred that end together must not stop those that run
            await self._flights.add_flights(records)
        except DeskError as error:
            log.warning("how answers were made could not be kept: %s", error)
        except Exception:
            # Whatever is odd about these must not end the recording of all that follow.
            log.exception("how answers were made could not be kept")
        finally:
            for key in over:
                del self._recordings[key]
