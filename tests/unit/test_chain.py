"""Failures before the first word move on to the next model; behind it nobody else goes on."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from core.agents import Agent
from core.chat import ChatRequest, MessageDelta
from core.chats import Message
from core.errors import ModelCrashed, ProviderBusy, ProviderRejected, ProviderUnreachable
from core.jobs import Job, JobService
from core.library import ModelLibrary
from core.preferences import ModelPreferences
from core.providers import ProviderConfig
from core.revisions import Revisions
from core.router import Router
from core.turn_plan import TurnDraft
from core.turns import TurnService
from tests.fakes import DONE, FakeProvider, FakeStore

pytestmark = pytest.mark.anyio

GONE = ProviderUnreachable("first does not answer.")


class Failing(FakeProvider):
    """Fails so many times before its first word, then answers."""

    def __init__(self, name: str, error: Exception, *, times: int = 1000) -> None:
        super().__init__("m", name=name)
        self.failure = error
        self.times = times

    async def stream_chat(self, request: ChatRequest) -> AsyncGenerator[object]:  # type: ignore[override]
        self.requests.append(request)
        if len(self.requests) <= self.times:
            raise self.failure
        yield MessageDelta("at last")
        yield DONE


class World:
    """A desk with two providers and a chain between them."""

    def __init__(self, first: FakeProvider, *, retries: int = 0, strict: bool = True) -> None:
        self.first, self.second = first, FakeProvider("n", name="second")
        for provider in (self.first, self.second):
            for model_id in provider.models:
                provider.put_in_memory(model_id)
        self.jobs = JobService()
        self.library = ModelLibrary((), self.jobs)
        for provider in (self.first, self.second):
            config = ProviderConfig(
                name=provider.name, kind="openai", base_url="", retry_attempts=retries
            )
            self.library.add(provider, config)
        self.store = FakeStore()
        agent = Agent(id="a", name="A", description="", instructions="", strict=strict)
        preferences = ModelPreferences(by_task={"general": ("second:*",)})
        router = Router(self.library, preferences=lambda: preferences)
        self.turns = TurnService(
            self.store, self.library, self.jobs, {"a": agent}, Revisions(), router=router
        )

    async def ask(self, model: str = "first:m") -> tuple[Job, Message]:
        chat = await self.store.create_chat()
        started = await self.turns.start(chat.id, TurnDraft(content="hi", model_id=model))
        await started.job.ended.wait()
        return started.job, self.store.messages[started.message_id]


async def test_the_next_model_answers_and_the_answer_says_who_failed() -> None:
    world = World(Failing("first", GONE))
    job, message = await world.ask()

    assert (message.status, message.content) == ("done", "Hello")
    truth = message.model
    assert truth is not None
    assert truth.route is not None
    assert (truth.asked, truth.route.asked) == ("second:n", "first:m")
    assert [(t.model_id, t.message) for t in truth.route.tried] == [("first:m", GONE.message)]
    (notice,) = [e for e in job.log.read(0) if e.type == "notice"]
    assert "N is asked instead" in notice.data["message"]


async def test_a_failure_behind_the_first_word_stays_a_failure_with_its_text() -> None:
    first = FakeProvider("m", name="first")
    first.error = GONE
    world = World(first)
    _, message = await world.ask()

    assert (message.status, message.content) == ("failed", "Hello")
    assert message.model is not None
    assert message.model.asked == "first:m"
    assert world.second.requests == []


async def test_a_model_that_crashed_before_its_first_word_is_replaced_too() -> None:
    _, message = await World(Failing("first", ModelCrashed("crashed"))).ask()

    assert (message.status, message.content) == ("done", "Hello")


async def test_what_may_pass_is_tried_again_with_the_same_model_first() -> None:
    world = World(Failing("first", GONE, times=1), retries=1)
    _, message = await world.ask()

    assert message.content == "at last"
    assert len(world.first.requests) == 2
    assert message.model is not None
    assert message.model.route is None


async def test_a_refusal_is_not_repeated_but_another_model_may_take_it() -> None:
    world = World(Failing("first", ProviderRejected("no")), retries=3)
    _, message = await world.ask()

    assert len(world.first.requests) == 1
    assert message.content == "Hello"


async def test_when_all_fail_the_last_reason_is_told_and_all_are_named() -> None:
    world = World(Failing("first", GONE))
    world.second.events = []
    world.second.error = ProviderBusy("second is full")
    _, message = await world.ask()

    assert (message.status, message.problem.code if message.problem else "") == (
        "failed",
        "provider_busy",
    )
    assert message.model is not None
    assert message.model.route is not None
    assert [t.model_id for t in message.model.route.tried] == ["first:m"]


async def test_auto_notes_why_this_model_was_chosen_and_the_chat_stays_on_auto() -> None:
    world = World(FakeProvider("m", name="first"))
    _, message = await world.ask("auto")

    assert message.model is not None
    note = message.model.route
    assert note is not None
    assert (note.kind, note.asked, message.model.asked) == ("auto", "auto", "second:n")
    assert "number 1 of your preferences (+100)" in note.reasons
    assert (await world.store.chat(message.chat_id)).model_id == "auto"


async def test_who_waits_for_a_busy_provider_sees_the_place_and_may_stop() -> None:
    first = FakeProvider("m", name="first")
    world = World(first)
    config = ProviderConfig(name="first", kind="openai", base_url="", parallel=1)
    world.library.add(first, config)
    first.gate.clear()
    one, two = [await world.store.create_chat() for _ in range(2)]
    draft = TurnDraft(content="hi", model_id="first:m")
    answering = await world.turns.start(one.id, draft)
    while not first.requests:
        await asyncio.sleep(0)
    waiting = await world.turns.start(two.id, draft)
    while waiting.job.info.stage is None:
        await asyncio.sleep(0)

    assert waiting.job.info.stage == "number 1 in the line for first"
    await world.jobs.stop(waiting.job.id)
    assert world.store.messages[waiting.message_id].status == "stopped"
    first.gate.set()
    await answering.job.ended.wait()
    assert world.store.messages[answering.message_id].status == "done"
