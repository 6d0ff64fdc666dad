"""TurnService: one answer in a chat, from the question to what is kept of it."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from core.agents import Agent
from core.answer import Answer, ended_with
from core.chain import Chain
from core.chats import Chat, Message, ModelTruth, Problem, Tried
from core.errors import (
    DeskError,
    ModelCrashed,
    ModelMismatch,
    ModelUnloaded,
    TurnRunning,
)
from core.jobs import Job, JobService
from core.learned import Learned
from core.library import ModelLibrary
from core.models import ModelInfo
from core.ports import ChatStore
from core.recorder import FlightRecorder, Recording
from core.revisions import Revisions
from core.router import Router
from core.runs import RunDraft, RunInfo
from core.runs_errors import RunNotFound
from core.stopping import StopProofs
from core.turn_plan import (
    TurnDraft,
    TurnPlan,
    TurnPlanner,
    as_task,
    check_content,
    new_message,
)

log = logging.getLogger(__name__)

# At most this much text is lost when the process is killed.
KEEP_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class StartedTurn:
    """A turn under way."""

    job: Job
    message_id: str
    user_message_id: str


class ToolRunner(Protocol):
    """Works on a task with an agent's tools, as a part of a job."""

    async def read(self, run_id: str) -> RunInfo:
        """What is kept of it. Raises RunNotFound."""
        ...

    async def within(
        self,
        job: Job,
        draft: RunDraft,
        *,
        agent: Agent,
        models: Sequence[ModelInfo],
        on_move: Callable[[ModelInfo, Tried], None],
        on_end: Callable[[RunInfo], None],
    ) -> None: ...


class TurnService:
    """Starts turns. A turn belongs to the API: whoever asked may leave."""

    def __init__(
        self,
        store: ChatStore,
        library: ModelLibrary,
        jobs: JobService,
        agents: dict[str, Agent],
        revisions: Revisions,
        recorder: FlightRecorder | None = None,
        learned: Learned | None = None,
        router: Router | None = None,
    ) -> None:
        """A `recorder` keeps how each answer is made, `learned` how fast it was."""
        self._learned = learned
        self._recorder = recorder
        self._revisions = revisions
        self._store = store
        self._library = library
        self._jobs = jobs
        self._planner = TurnPlanner(store, router or Router(library), agents)
        self._chain = Chain(library)
        self._busy: set[str] = set()
        self.runner: ToolRunner | None = None
        """Carries out the turns of agents with tools. Set once there is one."""
        self._proofs = StopProofs(store, library, revisions)

    async def open(self) -> None:
        """End what a crash left being written, with the text so far. Raises StorageError.

        An answer with tools is written down as its run is, and once more when it has ended. Wherever
        in between the process was killed, what is kept of the run counts: so it comes before us.
        """
        for message in await self._store.being_written():
            if (run := await self._kept_run(message)) is not None:
                await self._store.finish_message(ended_with(message, run))
        await self._store.mark_interrupted(reason="server_stopped")

    async def _kept_run(self, message: Message) -> RunInfo | None:
        if self.runner is None or message.job_id is None:
            return None
        try:
            run = await self.runner.read(message.job_id)
        except RunNotFound:
            return None
        return run if run.state != "running" else None

    async def aclose(self) -> None:
        """Give up looking whether stopped answers came to rest. The jobs have ended by now."""
        await self._proofs.aclose()

    async def check(self, chat: Chat, draft: TurnDraft) -> TurnPlan:
        """What would be asked of whom, in a chat that need not be kept yet.

        Raises what `start` raises. Nothing is written.
        """
        check_content(draft)
        return await self._planner.plan_in(chat, draft)

    async def start(self, chat_id: str, draft: TurnDraft) -> StartedTurn:
        """Check everything, keep the question, start answering.

        Raises MessageEmpty, MessageTooLong, BadParameter, ChatNotFound, MessageNotFound,
        AgentNotFound, ModelNotFound, ModelAmbiguous, NoModelFits, TurnRunning, StorageError, or what
        keeps the model's provider from answering. Then nothing is
        written.
        """
        check_content(draft)
        if chat_id in self._busy:
            raise _turn_running()
        self._busy.add(chat_id)
        try:
            plan = await self._planner.plan(chat_id, draft)
            answer = await self._write_down(plan, new=draft.content is not None)
        except BaseException:
            self._busy.discard(chat_id)
            raise
        job = Job("turn", chat_id=chat_id, message_id=answer.id, model_id=plan.model.full_name)
        job.id = answer.job_id or job.id
        job.enter("queued")
        self._jobs.start(job, lambda job: self._answer(job, plan, answer))
        self._revisions.touch(chat_id)
        return StartedTurn(job, answer.id, plan.question.id)

    async def _write_down(self, plan: TurnPlan, *, new: bool) -> Message:
        question = plan.question
        answer = new_message(
            plan.chat.id, parent_id=question.id, role="assistant", content=""
        ).model_copy(
            update={
                "status": "writing",
                "agent_id": plan.agent.id,
                "job_id": uuid.uuid4().hex,
                "model": ModelTruth(
                    asked=plan.model.full_name,
                    asked_context=self._library.asked_context(plan.model),
                    route=plan.note(),
                ),
            }
        )
        await self._store.add_messages(
            [question, answer] if new else [answer],
            head_id=answer.id,
            agent_id=plan.agent.id,
            model_id=plan.picked,
        )
        return answer

    async def _answer(self, job: Job, plan: TurnPlan, message: Message) -> None:
        answer = Answer(message, plan.model)
        recording = Recording(job, plan.history)
        if self._recorder is not None:
            self._recorder.begin(recording)
        keeper = asyncio.create_task(self._keep(answer))
        try:
            if plan.agent.tools and self.runner is not None:
                await self._run(self.runner, job, plan, answer, recording)
            else:
                await self._chain.answer(job, plan, answer, recording)
            if plan.agent.strict:
                _refuse_another(answer.truth)
            answer.end("done", answer.finish_reason)
        except asyncio.CancelledError:
            state, reason = job.ending or ("interrupted", "server_stopped")
            answer.end(
                "stopped" if state == "stopped" else "interrupted",
                reason,
                _unloaded(answer.model) if reason == "model_unloaded" else None,
            )
            raise
        except (ModelCrashed, ModelUnloaded) as error:
            answer.end("interrupted", error.code, _problem(error))
            job.ending = ("interrupted", error.code)
            raise
        except DeskError as error:
            answer.end("failed", error.code, _problem(error))
            raise
        except Exception:
            answer.end("failed", "internal", INTERNAL)
            raise
        finally:
            job.settle()  # a stop in the midst of the writing would lose text
            job.timeline.close()
            # Not cancelled: a write that is broken off in the middle may keep the database locked.
            answer.grew.set()
            await asyncio.wait([keeper])
            if (trouble := keeper.exception()) is not None:
                log.warning("a running answer could not be kept: %s", trouble)
            try:
                await self._store.finish_message(answer.message)
            finally:
                if self._recorder is not None:
                    self._recorder.end()
                self._busy.discard(plan.chat.id)
                self._revisions.touch(plan.chat.id)
            self._learn(answer)
            # Begins behind the job's end, which the person who stopped waits for.
            self._proofs.begin(answer.message, answer.model)
            job.result |= {"message": answer.message.model_dump(mode="json")}

    async def _run(
        self, runner: ToolRunner, job: Job, plan: TurnPlan, answer: Answer, recording: Recording
    ) -> None:
        """The agent has tools: the answer is what comes of its work with them."""
        agent = plan.agent.model_copy(update={"parameters": plan.parameters})
        draft = RunDraft(
            task=as_task(plan),
            agent_id=plan.agent.id,
            model=plan.model.full_name,
            chat_id=plan.chat.id,
        )

        def asks(model: ModelInfo) -> None:
            provider = self._library.provider(model.provider)
            recording.asks(provider.name, provider.kind)

        def move(model: ModelInfo, tried: Tried) -> None:
            answer.move_to(model, tried, asked_context=self._library.asked_context(model))
            asks(model)

        asks(plan.model)
        await runner.within(
            job,
            draft,
            agent=agent,
            models=[candidate.model for candidate in plan.route.candidates],
            on_move=move,
            on_end=answer.made_by_run,
        )

    def _learn(self, answer: Answer) -> None:
        truth = answer.message.model
        if self._learned is None or truth is None or truth.other_answered:
            return
        if answer.message.status in ("done", "stopped"):
            stats, context = answer.message.stats, truth.got_context
            self._learned.answered(truth.asked, context, stats, answer.timings)

    async def _keep(self, answer: Answer) -> None:
        """Write what there is so far, whenever it grew, until the answer has ended."""
        while True:
            await answer.grew.wait()
            answer.grew.clear()
            if answer.ended.is_set():
                return
            await self._store.write_text(
                answer.message.id, content=answer.content, reasoning=answer.reasoning
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(KEEP_SECONDS):
                    await answer.ended.wait()


INTERNAL = Problem(
    code="internal",
    message="Something went wrong inside LM Desk.",
    hint="The log has the details. Trying again may help.",
)


def _turn_running() -> TurnRunning:
    return TurnRunning(
        "An answer is already being written in this chat.",
        hint="Wait for it or stop it; or ask in a new chat.",
    )


def _refuse_another(truth: ModelTruth | None) -> None:
    if truth is not None and truth.other_answered:
        raise ModelMismatch(
            f"{truth.asked} was asked, but {truth.answered} answered.",
            hint="The text is kept. Load the model you want, then answer again.",
        )


def _unloaded(model: ModelInfo) -> Problem:
    return Problem(
        code="model_unloaded",
        message=f"{model.name} was taken out of memory while it was answering.",
        hint="The text so far is kept. Answer again to load it anew.",
    )


def _problem(error: DeskError) -> Problem:
    return Problem(code=error.code, message=error.message, hint=error.hint)
