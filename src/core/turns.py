"""TurnService: one answer in a chat, from the question to what is kept of it."""

import asyncio
import logging
import time
import uuid
from contextlib import aclosing, suppress
from dataclasses import dataclass

from core.agents import Agent
from core.answer import Answer
from core.chat import ChatMessage, ChatRequest, Parameters
from core.chats import Chat, Message, ModelTruth, Problem
from core.errors import (
    AgentNotFound,
    BadParameter,
    DeskError,
    MessageEmpty,
    MessageTooLong,
    ModelCrashed,
    ModelMismatch,
    ModelNotFound,
    ModelUnloaded,
    TurnRunning,
)
from core.jobs import Job, JobService
from core.learned import Learned
from core.leases import Lease
from core.library import ModelLibrary
from core.models import ModelInfo
from core.ports import ChatStore, Provider
from core.recorder import FlightRecorder, Recording
from core.revisions import Revisions
from core.stopping import StopProofs
from core.value import Value
from core.wire import WireLog

log = logging.getLogger(__name__)

# More than the largest windows in use today hold (about 100,000 tokens); beyond it a paste is a
# mistake, and the browser and the database would feel it.
MAX_MESSAGE_CHARS = 400_000
# At most this much text is lost when the process is killed.
KEEP_SECONDS = 0.2


class TurnDraft(Value):
    """What a person asks for."""

    content: str | None = None
    model_id: str | None = None
    agent_id: str | None = None
    parameters: Parameters | None = None
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class StartedTurn:
    """A turn under way."""

    job: Job
    message_id: str
    user_message_id: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything decided before anything is written."""

    chat: Chat
    model: ModelInfo
    agent: Agent
    parameters: Parameters
    history: list[Message]


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
    ) -> None:
        """A `recorder` keeps how each answer is made, `learned` how fast it was."""
        self._learned = learned
        self._recorder = recorder
        self._revisions = revisions
        self._store = store
        self._library = library
        self._jobs = jobs
        self._agents = agents
        self._busy: set[str] = set()
        self._proofs = StopProofs(store, library, revisions)

    async def aclose(self) -> None:
        """Give up looking whether stopped answers came to rest. The jobs have ended by now."""
        await self._proofs.aclose()

    async def start(self, chat_id: str, draft: TurnDraft) -> StartedTurn:
        """Check everything, keep the question, start answering.

        Raises MessageEmpty, MessageTooLong, BadParameter, ChatNotFound, MessageNotFound,
        AgentNotFound, ModelNotFound, ModelAmbiguous, TurnRunning, StorageError. Then nothing is
        written.
        """
        _check_content(draft)
        if chat_id in self._busy:
            raise _turn_running()
        self._busy.add(chat_id)
        try:
            plan, question = await self._plan(chat_id, draft)
            answer = await self._write_down(plan, question, new=draft.content is not None)
        except BaseException:
            self._busy.discard(chat_id)
            raise
        job = Job("turn", chat_id=chat_id, message_id=answer.id, model_id=plan.model.full_name)
        job.id = answer.job_id or job.id
        job.enter("queued")
        self._jobs.start(job, lambda job: self._answer(job, plan, answer))
        self._revisions.touch(chat_id)
        return StartedTurn(job, answer.id, question.id)

    async def _plan(self, chat_id: str, draft: TurnDraft) -> tuple[_Plan, Message]:
        chat = await self._store.chat(chat_id)
        agent = self._agent(draft.agent_id or chat.agent_id)
        model = await self._model(draft.model_id or chat.model_id)
        parameters = (draft.parameters or chat.parameters).over(agent.parameters)
        if draft.content is None:
            question = await self._question_again(chat, draft.parent_id)
            history = await self._store.branch(chat.id, question.id)
        else:
            parent = draft.parent_id if "parent_id" in draft.model_fields_set else chat.head_id
            history = await self._store.branch(chat.id, parent)
            question = _message(chat.id, parent_id=parent, role="user", content=draft.content)
            history = [*history, question]
        return _Plan(chat, model, agent, parameters, history), question

    def _agent(self, agent_id: str | None) -> Agent:
        if agent_id is None:
            return next(iter(self._agents.values()))
        try:
            return self._agents[agent_id]
        except KeyError:
            raise AgentNotFound(
                f"There is no agent {agent_id!r}.",
                hint=f"There are: {', '.join(self._agents)}.",
            ) from None

    async def _model(self, name: str | None) -> ModelInfo:
        if name is not None:
            model = await self._library.resolve(name)
        elif (default := await self._library.default_model()) is not None:
            model = default
        else:
            raise ModelNotFound(
                "There is no model to answer with.",
                hint="Start LM Studio's server, or put a GGUF file into the models folder.",
            )
        if model.kind == "embedding":
            raise BadParameter(
                f"{model.name} makes embeddings; it cannot chat.",
                hint="Pick a language model.",
            )
        return model

    async def _question_again(self, chat: Chat, message_id: str | None) -> Message:
        if message_id is None:
            raise MessageEmpty(
                "There is nothing to answer.",
                hint="Send some text, or the message to answer again.",
            )
        message = await self._store.message(chat.id, message_id)
        if message.role != "user":
            raise BadParameter(
                "Only a message of yours can be answered again.",
                hint="Use the id of the question as parent_id.",
            )
        return message

    async def _write_down(self, plan: _Plan, question: Message, *, new: bool) -> Message:
        answer = _message(
            plan.chat.id, parent_id=question.id, role="assistant", content=""
        ).model_copy(
            update={
                "status": "writing",
                "agent_id": plan.agent.id,
                "job_id": uuid.uuid4().hex,
                "model": ModelTruth(
                    asked=plan.model.full_name,
                    asked_context=self._library.asked_context(plan.model),
                ),
            }
        )
        await self._store.add_messages(
            [question, answer] if new else [answer],
            head_id=answer.id,
            agent_id=plan.agent.id,
            model_id=plan.model.full_name,
        )
        return answer

    async def _answer(self, job: Job, plan: _Plan, message: Message) -> None:
        answer = Answer(message, plan.model)
        provider = self._library.provider(plan.model.provider)
        recording = Recording(job, provider.name, provider.kind, plan.history)
        if self._recorder is not None:
            self._recorder.begin(recording)
        keeper = asyncio.create_task(self._keep(answer))
        try:
            async with self._library.lease(plan.model, job) as lease:
                await self._stream(job, plan, lease, answer, recording.wire)
            if plan.agent.strict:
                _refuse_another(answer.truth)
            answer.end("done", answer.finish_reason)
        except asyncio.CancelledError:
            state, reason = job.ending or ("interrupted", "server_stopped")
            answer.end(
                "stopped" if state == "stopped" else "interrupted",
                reason,
                _unloaded(plan.model) if reason == "model_unloaded" else None,
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
            self._proofs.begin(answer.message, plan.model)
            job.result = {"message": answer.message.model_dump(mode="json")}

    def _learn(self, answer: Answer) -> None:
        truth = answer.message.model
        if self._learned is None or truth is None or truth.other_answered:
            return
        if answer.message.status in ("done", "stopped"):
            stats, context = answer.message.stats, truth.got_context
            self._learned.answered(truth.asked, context, stats, answer.timings)

    async def _stream(
        self, job: Job, plan: _Plan, lease: Lease, answer: Answer, wire: WireLog
    ) -> None:
        provider: Provider = self._library.provider(lease.model.provider)
        answer.begin(lease, job)
        request = ChatRequest(
            model_id=lease.model.id,
            instance_id=lease.instance.id,
            messages=_as_sent(plan),
            parameters=plan.parameters.model_copy(update={"system_prompt": None}),
            wire=wire,
        )
        async with aclosing(provider.stream_chat(request)) as events:
            async for event in events:
                answer.take(event, job)

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


def _check_content(draft: TurnDraft) -> None:
    content = draft.content
    if content is None:
        return
    if not content.strip():
        raise MessageEmpty("The message is empty.", hint="Write something to answer.")
    if len(content) > MAX_MESSAGE_CHARS:
        raise MessageTooLong(
            f"The message has {len(content):,} characters; at most {MAX_MESSAGE_CHARS:,} can be sent.",
            hint="Send it in parts, or only the part that matters.",
        )


def _turn_running() -> TurnRunning:
    return TurnRunning(
        "An answer is already being written in this chat.",
        hint="Wait for it or stop it; or ask in a new chat.",
    )


def _message(chat_id: str, *, parent_id: str | None, role: str, content: str) -> Message:
    return Message.model_validate(
        {
            "id": uuid.uuid4().hex,
            "chat_id": chat_id,
            "parent_id": parent_id,
            "role": role,
            "content": content,
            "created_at": time.time(),
        }
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


def _as_sent(plan: _Plan) -> tuple[ChatMessage, ...]:
    """The conversation as the provider gets it: instructions first, empty answers left out.

    Neighbours of one role are joined: many chat templates insist on taking turns.
    """
    system = plan.parameters.system_prompt
    if system is None:
        system = plan.agent.instructions
    sent = [ChatMessage(role="system", content=system)] if system.strip() else []
    for message in plan.history:
        if not message.content.strip():
            continue
        if sent and sent[-1].role == message.role:
            joined = f"{sent[-1].content}\n\n{message.content}"
            sent[-1] = ChatMessage(role=message.role, content=joined)
        else:
            sent.append(ChatMessage(role=message.role, content=message.content))
    return tuple(sent)
