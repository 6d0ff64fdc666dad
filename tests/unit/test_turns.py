"""Turns: what is asked, what is kept, and how each ending looks."""

import asyncio
from dataclasses import dataclass, field

import pytest

from core.builtin_agents import BUILTIN_AGENTS
from core.chat import Answered, MessageDelta, Parameters, PromptProgress, ReasoningDelta
from core.chats import Message
from core.errors import (
    AgentNotFound,
    BadParameter,
    ChatNotFound,
    MessageEmpty,
    MessageTooLong,
    ModelCrashed,
    ModelNotFound,
    ProviderRejected,
    TurnRunning,
)
from core.jobs import JobService
from core.library import ModelLibrary
from core.models import Instance
from core.revisions import Revisions
from core.turn_plan import MAX_MESSAGE_CHARS, TurnDraft
from core.turns import StartedTurn, TurnService
from tests.fakes import FakeProvider, FakeStore

pytestmark = pytest.mark.anyio

AGENTS = {agent.id: agent for agent in BUILTIN_AGENTS}


@dataclass
class Bench:
    """A turn service over fakes, and the shortest way to ask it something."""

    provider: FakeProvider = field(default_factory=lambda: FakeProvider("m", "other"))
    store: FakeStore = field(default_factory=FakeStore)
    jobs: JobService = field(default_factory=JobService)
    revisions: Revisions = field(default_factory=Revisions)

    def __post_init__(self) -> None:
        self.library = ModelLibrary([self.provider], self.jobs)
        self.turns = TurnService(self.store, self.library, self.jobs, AGENTS, self.revisions)

    async def chat(self) -> str:
        return (await self.store.create_chat()).id

    async def ask(self, content: str | None = "Hi", **draft: object) -> StartedTurn:
        if not self.store.chats:
            await self.chat()
        chat_id = next(iter(self.store.chats))
        return await self.turns.start(chat_id, self.draft(content, **draft))

    @staticmethod
    def draft(content: str | None = "Hi", **draft: object) -> TurnDraft:
        return TurnDraft.model_validate({"content": content, "model_id": "m", **draft})

    async def answer(self, content: str | None = "Hi", **draft: object) -> Message:
        turn = await self.ask(content, **draft)
        await turn.job.ended.wait()
        return self.store.messages[turn.message_id]

    async def until(self, what: str) -> None:
        """Wait until an answer being written contains this text."""
        async with asyncio.timeout(5):
            while not any(what in m.content for m in self.store.messages.values()):
                await asyncio.sleep(0.005)


async def test_an_answer_is_kept_with_who_wrote_it_and_what_it_cost() -> None:
    bench = Bench()
    bench.provider.events = [
        PromptProgress(0.5),
        ReasoningDelta("hm"),
        MessageDelta("Hel"),
        MessageDelta("lo"),
        Answered("stop", "m", 12, 3),
    ]
    message = await bench.answer()

    assert (message.content, message.reasoning, message.status) == ("Hello", "hm", "done")
    assert message.model is not None
    assert (message.model.asked, message.model.answered) == ("fake:m", "m")
    assert message.model.got_context == 4096
    assert message.stats is not None
    assert (message.stats.input_tokens, message.stats.output_tokens) == (12, 3)
    assert message.stats.load_time_seconds == 0.5
    assert message.stats.reasoning_seconds is not None


async def test_watchers_see_load_reading_thinking_writing_and_the_end_in_order() -> None:
    bench = Bench()
    bench.provider.events = [ReasoningDelta("hm"), MessageDelta("Yes"), Answered("stop", "m")]
    turn = await bench.ask()
    await turn.job.ended.wait()
    types = list(dict.fromkeys(event.type for event in turn.job.log.read(0)))

    assert types == [
        "model_load.start",
        "model_load.progress",
        "model_load.end",
        "prompt_processing.start",
        "prompt_processing.end",
        "reasoning.delta",
        "message.delta",
        "job.end",
    ]
    assert turn.job.log.read(0)[-1].data["result"]["message"]["content"] == "Yes"


async def test_instructions_come_from_the_agent_and_the_chat_may_overrule_them() -> None:
    bench = Bench()
    await bench.answer(agent_id="coding")
    await bench.answer(
        agent_id="coding", parameters=Parameters(system_prompt="Be brief.", temperature=0.1)
    )
    first, second = bench.provider.requests

    assert first.messages[0].content == AGENTS["coding"].instructions
    assert first.parameters.temperature == 0.2
    assert second.messages[0].content == "Be brief."
    assert (second.parameters.temperature, second.parameters.top_p) == (0.1, 0.9)


async def test_the_conversation_so_far_is_sent_in_turns() -> None:
    bench = Bench()
    await bench.answer("One")
    bench.provider.error = ProviderRejected("No.")
    bench.provider.events = []
    await bench.answer("Two")
    bench.provider.error = None
    await bench.answer("Three")
    sent = [(m.role, m.content) for m in bench.provider.requests[-1].messages[1:]]

    assert sent == [("user", "One"), ("assistant", "Hello"), ("user", "Two\n\nThree")]


async def test_stopping_keeps_the_text_and_ends_upstream() -> None:
    bench = Bench()
    bench.provider.gate.clear()
    turn = await bench.ask()
    await bench.until("Hel")
    await bench.jobs.stop(turn.job.id)
    message = bench.store.messages[turn.message_id]

    assert (message.content, message.status) == ("Hel", "stopped")
    assert bench.provider.open_streams == 0
    assert bench.library.leased_by(await bench.library.resolve("m")) == []


async def test_a_running_answer_is_written_down_before_it_ends() -> None:
    bench = Bench()
    bench.provider.gate.clear()
    turn = await bench.ask()
    await bench.until("Hel")

    assert bench.store.messages[turn.message_id].status == "writing"
    await bench.jobs.stop(turn.job.id)


async def test_a_crash_in_the_middle_is_an_interruption_that_keeps_the_text() -> None:
    bench = Bench()
    bench.provider.events = [MessageDelta("Hel")]
    bench.provider.error = ModelCrashed("The model crashed.", hint="Send again.")
    turn = await bench.ask()
    await turn.job.ended.wait()
    message = bench.store.messages[turn.message_id]

    assert (message.content, message.status, message.reason) == (
        "Hel",
        "interrupted",
        "model_crashed",
    )
    assert message.problem is not None
    assert message.problem.message == "The model crashed."
    assert turn.job.state == "interrupted"


async def test_a_model_somebody_else_unloads_ends_the_answer_and_keeps_the_text() -> None:
    bench = Bench()
    bench.provider.gate.clear()
    turn = await bench.ask()
    await bench.until("Hel")
    await bench.provider.unload_instance("m")
    async with asyncio.timeout(10):
        await turn.job.ended.wait()
    message = bench.store.messages[turn.message_id]

    assert (message.content, message.status, message.reason) == (
        "Hel",
        "interrupted",
        "model_unloaded",
    )
    assert message.problem is not None
    assert "taken out of memory" in message.problem.message
    assert bench.provider.open_streams == 0


async def test_a_refusal_is_a_failed_message_with_the_sentence() -> None:
    bench = Bench()
    bench.provider.events = []
    bench.provider.error = ProviderRejected("The template is broken.", hint="Pick another model.")
    message = await bench.answer()

    assert message.status == "failed"
    assert message.problem is not None
    assert message.problem.code == "provider_rejected"


async def test_another_model_than_the_asked_one_fails_a_strict_agents_answer() -> None:
    bench = Bench()
    bench.provider.events = [MessageDelta("Hi"), Answered("stop", "stranger")]
    message = await bench.answer()

    assert (message.content, message.status, message.reason) == ("Hi", "failed", "model_mismatch")
    assert message.problem is not None
    assert "stranger answered" in message.problem.message
    assert message.model is not None
    assert message.model.answered == "stranger"


@pytest.mark.parametrize("named", ["m", "M", "fake:m", None])
async def test_any_name_of_the_asked_model_will_do(named: str | None) -> None:
    bench = Bench()
    bench.provider.events = [MessageDelta("Hi"), Answered("stop", named)]

    assert (await bench.answer()).status == "done"


async def test_the_id_of_the_instance_is_a_name_of_the_asked_model() -> None:
    bench = Bench()
    bench.provider.put_in_memory("m", Instance(id="mine", context_length=2048))
    bench.provider.events = [MessageDelta("Hi"), Answered("stop", "mine")]

    assert (await bench.answer()).status == "done"


async def test_an_agent_that_is_not_strict_takes_any_answer() -> None:
    bench = Bench()
    relaxed = AGENTS["general"].model_copy(update={"id": "relaxed", "strict": False})
    agents = {"relaxed": relaxed}
    bench.turns = TurnService(bench.store, bench.library, bench.jobs, agents, bench.revisions)
    bench.provider.events = [MessageDelta("Hi"), Answered("stop", "stranger")]
    message = await bench.answer()

    assert message.status == "done"
    assert message.model is not None
    assert message.model.other_answered


async def test_a_load_that_fails_fails_the_turn_with_its_own_code() -> None:
    bench = Bench()
    bench.provider.lies = True
    message = await bench.answer()

    assert message.problem is not None
    assert message.problem.code == "load_unproven"


async def test_a_shutdown_leaves_an_interrupted_message() -> None:
    bench = Bench()
    bench.provider.gate.clear()
    turn = await bench.ask()
    await bench.until("Hel")
    await bench.jobs.aclose()
    message = bench.store.messages[turn.message_id]

    assert (message.status, message.reason) == ("interrupted", "server_stopped")


async def test_a_second_turn_in_the_same_chat_waits_its_turn() -> None:
    bench = Bench()
    bench.provider.gate.clear()
    turn = await bench.ask()

    with pytest.raises(TurnRunning):
        await bench.ask("Again")
    assert len(bench.store.messages) == 2

    await bench.jobs.stop(turn.job.id)
    bench.provider.gate.set()
    assert (await bench.answer("Again")).content == "Hello"


async def test_answering_again_adds_a_sibling() -> None:
    bench = Bench()
    turn = await bench.ask()
    await turn.job.ended.wait()
    again = await bench.ask(None, parent_id=turn.user_message_id, model_id="other")
    await again.job.ended.wait()
    first, second = (bench.store.messages[t.message_id] for t in (turn, again))

    assert first.parent_id == second.parent_id == turn.user_message_id
    assert second.model is not None
    assert second.model.asked == "fake:other"
    assert first.content == "Hello"


async def test_without_a_model_a_loaded_one_answers() -> None:
    bench = Bench()
    bench.provider.put_in_memory("other")
    message = await bench.answer(model_id=None)

    assert message.model is not None
    assert message.model.asked == "fake:other"


@pytest.mark.parametrize(
    ("draft", "error"),
    [
        ({"content": "   "}, MessageEmpty),
        ({"content": None}, MessageEmpty),
        ({"content": "x" * (MAX_MESSAGE_CHARS + 1)}, MessageTooLong),
        ({"model_id": "nope"}, ModelNotFound),
        ({"agent_id": "nope"}, AgentNotFound),
    ],
)
async def test_what_cannot_be_asked_is_refused_and_leaves_no_trace(
    draft: dict[str, object], error: type[Exception]
) -> None:
    bench = Bench()
    with pytest.raises(error):
        await bench.ask(**{"content": "Hi", **draft})  # type: ignore[arg-type]

    assert bench.store.messages == {}
    assert (await bench.answer()).status == "done"


async def test_an_embedding_model_is_refused() -> None:
    bench = Bench()
    bench.provider.models["m"] = bench.provider.models["m"].model_copy(update={"kind": "embedding"})
    with pytest.raises(BadParameter, match="embeddings"):
        await bench.ask()


async def test_an_unknown_chat_is_refused() -> None:
    with pytest.raises(ChatNotFound):
        await Bench().turns.start("nope", TurnDraft(content="Hi", model_id="m"))


class SlowStore(FakeStore):
    """Holds back the last write of an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.finishing, self.may_finish = asyncio.Event(), asyncio.Event()

    async def finish_message(self, message: Message) -> None:
        self.finishing.set()
        await self.may_finish.wait()
        await super().finish_message(message)


async def test_a_stop_while_the_answer_is_written_down_comes_too_late_and_loses_nothing() -> None:
    store = SlowStore()
    bench = Bench(store=store)
    turn = await bench.ask()
    await store.finishing.wait()
    stop = asyncio.create_task(bench.jobs.stop(turn.job.id))
    await asyncio.sleep(0)
    store.may_finish.set()
    await stop
    message = store.messages[turn.message_id]

    assert (turn.job.state, message.status, message.content) == ("done", "done", "Hello")
