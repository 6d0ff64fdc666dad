"""The recorder beside real turns over fakes: what it has of each ending, and when it writes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from core.builtin_agents import BUILTIN_AGENTS
from core.chat import Answered, ChatRequest, ChatStream, MessageDelta, ReasoningDelta
from core.chats import Message
from core.errors import ChatNotFound, FlightNotFound, ProviderRejected, StorageError
from core.flight import FlightRecord
from core.jobs import JobService
from core.library import ModelLibrary
from core.loads import Loads
from core.models import LoadOptions
from core.monitor import HardwareMonitor
from core.recorder import FlightRecorder
from core.revisions import Revisions
from core.swap import Swaps
from core.turn_plan import TurnDraft
from core.turns import StartedTurn, TurnService
from tests.fakes import FakeProbe, FakeProvider, FakeStore
from tests.unit.test_loads import FakeHistory

pytestmark = pytest.mark.anyio

AGENTS = {agent.id: agent for agent in BUILTIN_AGENTS}


class ReportingProvider(FakeProvider):
    """Notes what it sends, as adapters do. `unload_gate` holds back unloads."""

    def __init__(self, *model_ids: str) -> None:
        super().__init__(*model_ids)
        self.unload_gate = asyncio.Event()
        self.unload_gate.set()

    async def unload_instance(self, instance_id: str) -> None:
        await self.unload_gate.wait()
        await super().unload_instance(instance_id)

    async def stream_chat(self, request: ChatRequest) -> ChatStream:
        assert request.wire is not None
        messages = [message.model_dump() for message in request.messages]
        request.wire.sent("POST", "http://host/v1", {"model": "m", "messages": messages})
        try:
            async for event in super().stream_chat(request):
                yield event
        finally:
            request.wire.received(status=200, finish_reason="stop")


class FakeFlights:
    """Flights in a dictionary."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self.records: dict[str, FlightRecord] = {}
        self.writes: list[int] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def add_flights(self, records: Sequence[tuple[str, FlightRecord]]) -> None:
        self.writes.append(len(records))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.records.update(records)

    async def flight(self, message_id: str) -> tuple[str, FlightRecord] | None:
        if message_id not in self.records:
            return None
        return self._store.messages[message_id].chat_id, self.records[message_id]


class Bench:
    """Turns with a recorder; the monitor samples every few milliseconds."""

    def __init__(self) -> None:
        self.provider = ReportingProvider("m", "other")
        self.store = FakeStore()
        self.flights = FakeFlights(self.store)
        self.jobs = JobService()
        self.monitor = HardwareMonitor(FakeProbe(), interval=0.01)
        self.recorder = FlightRecorder(
            self.store, self.flights, self.monitor, secrets=["sesame-open"]
        )
        self.library = ModelLibrary([self.provider], self.jobs)
        self.turns = TurnService(
            self.store, self.library, self.jobs, AGENTS, Revisions(), self.recorder
        )

    async def ask(self, content: str = "Hi", *, chat_id: str | None = None) -> StartedTurn:
        chat_id = chat_id or (await self.store.create_chat()).id
        return await self.turns.start(chat_id, TurnDraft(content=content, model_id="m"))

    async def answer(self, content: str = "Hi", *, chat_id: str | None = None) -> Message:
        turn = await self.ask(content, chat_id=chat_id)
        await turn.job.ended.wait()
        return self.store.messages[turn.message_id]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    async def kept(self, message: Message) -> FlightRecord:
        await self.until(lambda: message.id in self.flights.records)
        return self.flights.records[message.id]


@asynccontextmanager
async def open_bench() -> AsyncGenerator[Bench]:
    bench = Bench()
    following = [
        asyncio.create_task(bench.monitor.run()),
        asyncio.create_task(bench.recorder.run()),
    ]
    await bench.monitor.latest()
    try:
        yield bench
    finally:
        await bench.jobs.aclose()
        await bench.recorder.aclose()
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        bench.monitor.close()


async def test_an_answer_is_kept_with_phases_trace_request_and_response() -> None:
    async with open_bench() as bench:
        bench.provider.events = [
            ReasoningDelta("hm"),
            MessageDelta("Hello"),
            Answered("stop", "m", 12, 3),
        ]
        message = await bench.answer("What is sesame-open?")
        record = await bench.kept(message)
        flight = await bench.recorder.flight(message.id)

    phases = [phase.phase for phase in flight.phases]
    assert [p for p in phases if p != "queued"] == ["loading", "reading", "thinking", "writing"]
    assert all(
        after.start == pytest.approx(before.start + before.seconds, abs=0.001)
        for before, after in zip(flight.phases, flight.phases[1:], strict=False)
    )
    loading = next(phase for phase in flight.phases if phase.phase == "loading")
    assert [mark["progress"] for mark in loading.marks] == [0.0, 0.3, 0.8, 1.0]
    assert next(p.tokens for p in flight.phases if p.phase == "reading") == 12
    assert flight.trace.at
    assert flight.trace.cpu_percent[0] == 12.5
    assert (flight.provider, flight.provider_kind, flight.status) == ("fake", "lmstudio", "done")
    assert flight.request is not None
    assert flight.request.body["messages"][-1]["content"] == "What is [removed]?"
    assert "What is" not in record.model_dump_json()
    assert flight.response == {
        "status": 200,
        "finish_reason": "stop",
        "content": "Hello",
        "reasoning": "hm",
    }
    assert flight.model is not None
    assert flight.model.instance_id == "m"


async def test_a_failed_answer_has_a_flight_with_its_problem() -> None:
    async with open_bench() as bench:
        bench.provider.error = ProviderRejected("No.", hint="Ask nicely.")
        message = await bench.answer()
        await bench.kept(message)
        flight = await bench.recorder.flight(message.id)

    assert (flight.status, flight.reason) == ("failed", "provider_rejected")
    assert flight.problem is not None
    assert flight.phases[-1].phase == "writing"


async def test_an_answer_whose_load_failed_has_a_flight_without_a_request() -> None:
    async with open_bench() as bench:
        bench.provider.load_error = ProviderRejected("No.")
        message = await bench.answer()
        await bench.kept(message)
        flight = await bench.recorder.flight(message.id)

    assert (flight.request, flight.response) == (None, None)
    assert flight.phases[-1].phase == "loading"


@pytest.mark.parametrize("how", ["stopped", "interrupted"])
async def test_an_answer_that_was_ended_early_has_a_flight(how: str) -> None:
    async with open_bench() as bench:
        bench.provider.gate.clear()
        turn = await bench.ask()
        await bench.until(lambda: bench.provider.open_streams > 0)
        await bench.jobs.stop(turn.job.id, state=how, reason="user")  # type: ignore[arg-type]
        await bench.kept(bench.store.messages[turn.message_id])
        flight = await bench.recorder.flight(turn.message_id)

    assert flight.status == how
    assert flight.request is not None
    assert flight.response is not None


async def test_a_running_answer_can_be_looked_at_already() -> None:
    async with open_bench() as bench:
        bench.provider.gate.clear()
        turn = await bench.ask()
        await bench.until(lambda: turn.job.info.phase == "writing")
        flight = await bench.recorder.flight(turn.message_id)
        bench.provider.gate.set()

    assert flight.status == "writing"
    assert flight.phases[-1].phase == "writing"


async def test_the_end_of_a_job_does_not_wait_for_the_recorder_and_what_ends_together_is_one_write() -> (
    None
):
    async with open_bench() as bench:
        bench.provider.put_in_memory("m")
        bench.provider.gate.clear()
        turns = [await bench.ask() for _ in range(20)]
        await bench.until(lambda: bench.provider.open_streams == 20)
        bench.provider.gate.set()
        for turn in turns:
            await turn.job.ended.wait()
        await bench.until(lambda: len(bench.flights.records) == 20)

    assert len(bench.flights.writes) < 10
    assert bench.flights.records.keys() == {turn.message_id for turn in turns}


async def test_at_the_end_what_is_not_written_yet_is_written_at_once() -> None:
    async with open_bench() as bench:
        bench.provider.gate.clear()
        turn = await bench.ask()
        await bench.until(lambda: bench.provider.open_streams > 0)
    record = bench.flights.records[turn.message_id]

    assert bench.store.messages[turn.message_id].status == "interrupted"
    assert record.phases


async def test_what_ended_while_others_were_written_is_written_at_the_end() -> None:
    async with open_bench() as bench:
        bench.provider.put_in_memory("m")
        bench.flights.gate.clear()
        first = await bench.answer()
        await bench.until(lambda: bool(bench.flights.writes))
        second = await bench.answer()
        closing = asyncio.create_task(bench.recorder.aclose())
        await asyncio.sleep(0)
        bench.flights.gate.set()
        await closing

    assert bench.flights.records.keys() == {first.id, second.id}


@pytest.mark.parametrize("error", [StorageError("The disk is full."), ValueError("odd")])
async def test_a_write_that_fails_costs_the_record_and_neither_the_answer_nor_the_next_record(
    error: Exception,
) -> None:
    async with open_bench() as bench:
        bench.flights.error = error
        lost = await bench.answer()
        await bench.until(lambda: bool(bench.flights.writes))
        bench.flights.error = None
        kept = await bench.answer("Again", chat_id=lost.chat_id)
        await bench.kept(kept)
        with pytest.raises(FlightNotFound):
            await bench.recorder.flight(lost.id)

    assert lost.status == "done"


async def test_a_message_nobody_recorded_is_not_found_nor_one_of_a_deleted_chat() -> None:
    async with open_bench() as bench:
        with pytest.raises(FlightNotFound):
            await bench.recorder.flight("nope")
        message = await bench.answer()
        await bench.kept(message)
        await bench.store.delete_chat(message.chat_id)
        with pytest.raises(ChatNotFound):
            await bench.recorder.flight(message.id)


async def test_without_samples_of_the_machine_flights_are_kept_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.recorder.SETTLE_SECONDS", 0.05)
    bench = Bench()  # whose monitor does not run
    message = await bench.answer()
    record = await bench.kept(message)
    await bench.recorder.aclose()
    bench.monitor.close()

    assert record.trace.at == ()
    assert record.phases


async def test_an_answer_that_waits_for_a_swap_shows_the_old_model_going_and_the_new_one_coming() -> (
    None
):
    async with open_bench() as bench:
        bench.provider.put_in_memory("other")
        old = await bench.library.resolve("other")
        new = await bench.library.resolve("m")
        bench.provider.unload_gate.clear()
        swaps = Swaps(bench.library, Loads(FakeHistory(), bench.monitor), bench.store)
        swap = swaps.start(new, [old], when="now", options=LoadOptions())
        turn = await bench.ask()
        await bench.until(lambda: turn.job.info.phase == "unloading")
        bench.provider.unload_gate.set()
        await turn.job.ended.wait()
        message = bench.store.messages[turn.message_id]
        await bench.kept(message)
        flight = await bench.recorder.flight(message.id)

    assert (message.status, swap.state) == ("done", "done")
    phases = [phase.phase for phase in flight.phases]
    assert phases[-3:] == ["loading", "reading", "writing"]
    assert "unloading" in phases
    unloading = next(phase for phase in flight.phases if phase.phase == "unloading")
    assert [mark["stage"] for mark in unloading.marks] == ["taking Other out of memory"]
