"""After a stop: whether the model came to rest, and what is kept of it."""

import asyncio
import time
from collections.abc import Callable

import pytest

from core import stopping
from core.chats import Message, StopProof
from core.errors import ProviderTimeout
from core.models import Processing
from tests.fakes import FakeProvider
from tests.unit.test_turns import Bench

pytestmark = pytest.mark.anyio


class BusyFake(FakeProvider):
    """Tells what its instances do: `doing` one after the other, the last one for ever."""

    def __init__(self, *doing: Processing | None) -> None:
        super().__init__("m", "other")
        self.doing = list(doing)
        self.hangs = False
        self.fails = False
        self.looked = 0

    async def processing(self, instance_id: str) -> Processing | None:
        self.looked += 1
        if self.fails:
            raise ProviderTimeout("No answer.")
        if self.hangs:
            await asyncio.Event().wait()
        return self.doing.pop(0) if len(self.doing) > 1 else self.doing[0]


IDLE = Processing(status="idle")
READING = Processing(status="reading")


async def stopped(bench: Bench) -> str:
    """The id of an answer that was stopped in the middle."""
    bench.provider.gate.clear()
    turn = await bench.ask()
    await bench.until("Hel")
    await bench.jobs.stop(turn.job.id)
    return turn.message_id


async def proven(bench: Bench, message_id: str) -> StopProof:
    def proof() -> StopProof | None:
        stats = bench.store.messages[message_id].stats
        return stats.stop_proof if stats else None

    await until(lambda: proof() is not None)
    found = proof()
    assert found is not None
    return found


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not look():
            await asyncio.sleep(0.005)


async def test_a_model_that_comes_to_rest_is_proven_idle() -> None:
    bench = Bench(BusyFake(READING, READING, IDLE))
    proof = await proven(bench, await stopped(bench))

    assert proof.state == "idle"
    assert proof.seconds is not None
    assert proof.seconds >= stopping.LOOK_SECONDS


async def test_the_stop_itself_does_not_wait_for_the_proof() -> None:
    bench = Bench(BusyFake(READING))
    message_id = await stopped(bench)
    message = bench.store.messages[message_id]

    assert (message.content, message.status) == ("Hel", "stopped")
    assert message.stats is not None
    assert message.stats.stop_proof is None
    await bench.turns.aclose()


async def test_a_model_that_goes_on_is_told_as_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "PROOF_SECONDS", 0.3)
    bench = Bench(BusyFake(READING))
    message_id = await stopped(bench)
    revision = bench.revisions.of(bench.store.messages[message_id].chat_id)
    proof = await proven(bench, message_id)

    assert (proof.state, proof.doing) == ("busy", "reading")
    chat_id = bench.store.messages[message_id].chat_id
    await until(lambda: bench.revisions.of(chat_id) > revision)


@pytest.mark.parametrize("how", ["gone", "fails", "hangs"])
async def test_what_cannot_be_seen_is_not_known(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "PROOF_SECONDS", 0.2)
    provider = BusyFake(None)
    provider.fails, provider.hangs = how == "fails", how == "hangs"
    bench = Bench(provider)

    assert await proven(bench, await stopped(bench)) == StopProof(state="unknown")


async def test_a_provider_that_cannot_tell_proves_nothing() -> None:
    bench = Bench()
    assert await proven(bench, await stopped(bench)) == StopProof(state="unknown")


async def test_another_answer_on_the_same_model_is_no_proof_against_this_one() -> None:
    bench = Bench(BusyFake(READING))
    bench.provider.gate.clear()
    first = await bench.ask()
    await bench.until("Hel")
    other_chat = await bench.store.create_chat()
    second = await bench.turns.start(other_chat.id, bench.draft("Hi"))
    await until(lambda: bench.provider.open_streams == 2)
    await bench.jobs.stop(first.job.id)
    proof = await proven(bench, first.message_id)
    await bench.jobs.stop(second.job.id)
    await bench.turns.aclose()

    assert proof == StopProof(state="unknown")


async def test_an_answer_that_ended_by_itself_needs_no_proof() -> None:
    provider = BusyFake(READING)
    bench = Bench(provider)
    message: Message = await bench.answer()
    await bench.turns.aclose()

    assert message.stats is not None
    assert message.stats.stop_proof is None
    assert provider.looked == 0


async def test_the_end_does_not_wait_for_a_proof() -> None:
    provider = BusyFake(READING)
    provider.hangs = True
    bench = Bench(provider)
    await stopped(bench)
    await until(lambda: provider.looked > 0)
    before = time.monotonic()
    await bench.turns.aclose()

    assert time.monotonic() - before < stopping.PROOF_SECONDS / 2
