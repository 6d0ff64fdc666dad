"""Swaps: who waits, who is interrupted, and what comes back when the new model does not come."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from core.errors import LoadFailed, NotLoadable
from core.jobs import Job
from core.library import ModelLibrary
from core.loads import Loads
from core.models import LoadOptions, ModelInfo
from core.monitor import HardwareMonitor
from core.swap import Swaps, When
from core.turns import StartedTurn, TurnService
from tests.fakes import OUT_OF_ORDER, FakeProbe, FakeProvider
from tests.unit.test_loads import FakeHistory
from tests.unit.test_turns import AGENTS, Bench

pytestmark = pytest.mark.anyio

LONG = LoadOptions(context_length=16_384, flash_attention=True)


class PickyProvider(FakeProvider):
    """Remembers with what it loaded, and fails the models a test names."""

    def __init__(self, *model_ids: str) -> None:
        super().__init__(*(model_ids or ("old", "new", "third")))
        self.failing: set[str] = set()
        self.loaded_with: list[tuple[str, LoadOptions]] = []
        self.unloads = asyncio.Event()
        self.unloads.set()
        """Cleared: an unload hangs after it has happened."""

    async def load_model(self, model_id: str, options: LoadOptions):  # type: ignore[no-untyped-def]
        self.loaded_with.append((model_id, options))
        self.load_error = OUT_OF_ORDER if model_id in self.failing else None
        async for event in super().load_model(model_id, options):
            yield event

    async def unload_instance(self, instance_id: str) -> None:
        await super().unload_instance(instance_id)
        await self.unloads.wait()

    @property
    def in_memory(self) -> list[str]:
        return [model.id for model in self.models.values() if model.loaded]


class Room(Bench):
    """A bench with swaps on it, and a model named `old` that we loaded ourselves."""

    def __init__(self, provider: PickyProvider | None = None) -> None:
        self.picky = provider or PickyProvider()
        super().__init__(provider=self.picky)
        self.loads = Loads(FakeHistory(), HardwareMonitor(FakeProbe(), interval=0.01))
        self.library = ModelLibrary([self.provider], self.jobs, self.loads)
        self.turns = TurnService(self.store, self.library, self.jobs, AGENTS, self.revisions)
        self.swaps = Swaps(self.library, self.loads, self.store)

    async def model(self, name: str) -> ModelInfo:
        return await self.library.resolve(name)

    async def load(self, name: str, options: LoadOptions | None = None) -> Job:
        return await done(self.library.start_load(await self.model(name), options))

    async def swap(
        self, to: str = "new", out: Sequence[str] = ("old",), *, when: When = "idle"
    ) -> Job:
        going = [await self.model(name) for name in out]
        return self.swaps.start(await self.model(to), going, when=when, options=LoadOptions())

    async def answering(self, name: str = "old") -> StartedTurn:
        """An answer that hangs in its middle until the gate opens."""
        self.provider.gate.clear()
        chat = await self.store.create_chat(title="Lisbon")
        turn = await self.turns.start(chat.id, self.draft(model_id=name))
        await self.until("Hel")
        return turn


async def done(job: Job) -> Job:
    async with asyncio.timeout(20):
        await job.ended.wait()
    return job


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.002)


async def test_a_swap_takes_the_old_one_out_and_brings_the_new_one_in() -> None:
    room = Room()
    await room.load("old")
    job = await done(await room.swap())

    assert (job.state, room.picky.in_memory) == ("done", ["new"])
    assert job.result["model_id"] == "fake:new"
    assert room.loads.ours == ("fake:new",)


async def test_idle_waits_for_the_answer_names_its_chat_and_changes_nothing_before() -> None:
    room = Room()
    await room.load("old")
    turn = await room.answering()
    job = await room.swap()
    await until(lambda: job.info.stage)

    assert job.info.stage == "waiting for the answer in “Lisbon” to end"
    assert room.picky.in_memory == ["old"]
    room.provider.gate.set()
    await done(job)
    message = room.store.messages[turn.message_id]
    assert (message.status, message.content) == ("done", "Hello")
    assert (job.state, room.picky.in_memory) == ("done", ["new"])


async def test_idle_takes_nothing_out_while_one_of_several_is_busy() -> None:
    room = Room()
    await room.load("old")
    await room.load("third")
    await room.answering("third")
    job = await room.swap(out=("old", "third"))
    await until(lambda: job.info.stage)

    assert room.picky.in_memory == ["old", "third"]
    room.provider.gate.set()
    assert (await done(job)).state == "done"
    assert room.picky.in_memory == ["new"]


async def test_now_ends_the_answer_with_its_text_because_the_model_changed() -> None:
    room = Room()
    await room.load("old")
    turn = await room.answering()
    job = await done(await room.swap(when="now"))
    message = room.store.messages[turn.message_id]

    assert (job.state, room.picky.in_memory) == ("done", ["new"])
    assert (message.status, message.reason) == ("interrupted", "model_changed")
    assert message.content == "Hel"
    assert message.model is not None
    assert message.model.asked == "fake:old"
    assert room.library.leased_by(await room.model("old")) == []


async def test_an_answer_that_begins_during_a_swap_waits_and_is_never_cut_off() -> None:
    room = Room()
    await room.load("old")
    room.picky.unloads.clear()
    swap = await room.swap()
    await until(lambda: room.picky.in_memory == [])
    chat = await room.chat()
    turn = await room.turns.start(chat, room.draft(model_id="old"))
    room.picky.unloads.set()
    await done(swap)
    await done(turn.job)

    assert room.store.messages[turn.message_id].content == "Hello"
    assert room.store.messages[turn.message_id].status == "done"
    assert [name for name, _ in room.picky.loaded_with] == ["old", "new", "old"]


async def test_a_new_model_that_fails_brings_the_old_one_back_with_its_settings() -> None:
    room = Room()
    await room.load("old", LONG)
    room.picky.failing = {"new"}
    job = await done(await room.swap())

    assert (job.state, room.picky.in_memory) == ("failed", ["old"])
    assert job.error is not None
    assert job.error.code == "model_load_failed"
    assert job.error.message == OUT_OF_ORDER.message
    assert job.error.hint == "Download it again. Old is loaded again."
    assert room.picky.loaded_with[-1] == ("old", LONG)
    assert OUT_OF_ORDER.hint == "Download it again."


async def test_an_old_one_that_does_not_come_back_is_said() -> None:
    room = Room()
    await room.load("old")
    room.picky.failing = {"new", "old"}
    job = await done(await room.swap())

    assert job.error is not None
    assert job.error.hint.endswith("Old could not be loaded again.")
    assert room.picky.in_memory == []


async def test_a_cancelled_swap_brings_the_old_one_back() -> None:
    room = Room()
    await room.load("old", LONG)
    room.picky.load_gate.clear()
    job = await room.swap()
    await until(lambda: job.info.progress == 0.8)
    await room.jobs.stop(job.id)
    room.picky.load_gate.set()
    await until(lambda: room.picky.in_memory == ["old"])

    assert (job.state, job.error) == ("stopped", None)
    assert room.picky.cancelled_loads == 1
    assert room.picky.loaded_with[-1] == ("old", LONG)


async def test_a_swap_cancelled_while_it_unloads_brings_back_what_is_gone_already() -> None:
    room = Room()
    await room.load("old", LONG)
    room.picky.unloads.clear()
    job = await room.swap()
    await until(lambda: room.picky.in_memory == [])
    await room.jobs.stop(job.id)
    room.picky.unloads.set()
    await until(lambda: room.picky.in_memory == ["old"])

    assert job.state == "stopped"
    assert room.picky.loaded_with[-1] == ("old", LONG)


async def test_a_swap_cancelled_while_it_waits_has_changed_nothing() -> None:
    room = Room()
    await room.load("old")
    turn = await room.answering()
    job = await room.swap()
    await until(lambda: job.info.stage)
    await room.jobs.stop(job.id)

    assert job.state == "stopped"
    assert turn.job.state == "running"
    room.provider.gate.set()
    await done(turn.job)
    assert room.store.messages[turn.message_id].content == "Hello"
    assert (room.picky.in_memory, room.picky.loads) == (["old"], 1)


async def test_a_second_swap_to_the_same_model_joins_the_first() -> None:
    room = Room()
    await room.load("old")
    first, second = await room.swap(), await room.swap(when="now")

    assert first is second
    await done(first)
    assert [name for name, _ in room.picky.loaded_with] == ["old", "new"]


async def test_swaps_that_cross_leave_one_model_and_no_job_behind() -> None:
    room = Room()
    await room.load("old")
    there = await room.swap("new", ["old"])
    back = await room.swap("old", ["new"])
    await done(there)
    await done(back)

    assert len(room.picky.in_memory) == 1
    assert room.jobs.list(state="running") == []


async def test_a_model_swapped_for_itself_is_left_alone() -> None:
    room = Room()
    await room.load("old")
    job = await done(await room.swap("old", ["old"]))

    assert (job.state, room.picky.loads, room.picky.in_memory) == ("done", 1, ["old"])


async def test_what_cannot_be_unloaded_is_refused_before_anything_goes() -> None:
    room = Room()
    await room.load("old")
    room.picky.models["third"] = room.picky.models["third"].model_copy(update={"loadable": False})
    await room.library.refresh(max_age=0)

    with pytest.raises(NotLoadable):
        await room.swap(out=("old", "third"))
    assert room.picky.in_memory == ["old"]


async def test_an_unload_that_fails_keeps_the_model_ours_and_the_new_one_out() -> None:
    room = Room()
    await room.load("old")

    async def refuse(instance_id: str) -> None:
        raise LoadFailed(f"{instance_id} stays.", hint="Eject it there.")

    room.picky.unload_instance = refuse  # type: ignore[method-assign]
    job = await done(await room.swap())

    assert (job.state, room.picky.in_memory) == ("failed", ["old"])
    assert job.error is not None
    assert job.error.message == "old stays."
    assert room.loads.ours == ("fake:old",)


async def test_stopping_one_answer_does_not_take_the_load_from_another() -> None:
    room = Room()
    room.picky.load_gate.clear()
    first = await room.turns.start(await room.chat(), room.draft(model_id="old"))
    second = await room.turns.start(await room.chat(), room.draft(model_id="old"))
    await until(lambda: second.job.info.progress == 0.8)
    await room.jobs.stop(first.job.id)
    room.picky.load_gate.set()
    await done(second.job)

    assert first.job.state == "stopped"
    assert room.store.messages[second.message_id].content == "Hello"
    assert room.picky.loads == 1


async def test_a_load_a_person_asked_for_outlives_the_answer_that_began_it() -> None:
    room = Room()
    room.picky.load_gate.clear()
    turn = await room.turns.start(await room.chat(), room.draft(model_id="old"))
    await until(lambda: turn.job.info.progress == 0.8)
    load = room.library.start_load(await room.model("old"))
    await room.jobs.stop(turn.job.id)
    room.picky.load_gate.set()

    assert (await done(load)).state == "done"
    assert room.picky.in_memory == ["old"]


async def test_a_forced_unload_lets_no_new_answer_slip_in_between() -> None:
    room = Room()
    await room.load("old")
    await room.answering()
    room.picky.unloads.clear()
    unload = room.library.start_unload(await room.model("old"), force=True)
    await until(lambda: room.picky.in_memory == [])
    room.provider.gate.set()
    turn = await room.turns.start(await room.chat(), room.draft(model_id="old"))
    room.picky.unloads.set()
    await done(unload)
    await done(turn.job)

    assert unload.state == "done"
    assert room.store.messages[turn.message_id].content == "Hello"
