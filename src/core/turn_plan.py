"""TurnPlan: everything about an answer that is decided before a word of it is written."""

import time
import uuid
from dataclasses import dataclass
from datetime import datetime

from core.agents import Agent, AgentDraft, no_agent
from core.chat import ChatMessage, Parameters
from core.chats import Chat, Message, RouteNote
from core.errors import BadParameter, MessageEmpty, MessageTooLong
from core.instructions import filled
from core.models import ModelInfo
from core.ports import ChatStore
from core.preferences import AUTO
from core.router import ASKED_FOR, Router
from core.routing import Need, Route, tokens_in
from core.value import Value

# More than the largest windows in use today hold (about 100,000 tokens); beyond it a paste is a
# mistake, and the browser and the database would feel it.
MAX_MESSAGE_CHARS = 400_000
# More reasons than these nobody reads below an answer; the preview has them all.
NOTED = 8


class TurnDraft(Value):
    """What a person asks for."""

    content: str | None = None
    model_id: str | None = None
    """A name, or `auto`."""
    agent_id: str | None = None
    agent: AgentDraft | None = None
    """Answers as it stands here, in place of the kept one: a draft can be tried before it is saved."""
    parameters: Parameters | None = None
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """Who answers what, and with what."""

    chat: Chat
    route: Route
    agent: Agent
    parameters: Parameters
    history: list[Message]
    question: Message

    @property
    def model(self) -> ModelInfo:
        """The one that is asked first."""
        return self.route.candidates[0].model

    @property
    def picked(self) -> str:
        """What the chat goes on with: `auto`, or the model's full name."""
        if self.route.kind == "auto":
            return AUTO
        first = self.route.candidates[0]
        return first.model_id if ASKED_FOR in first.reasons else self.route.asked

    def note(self) -> RouteNote | None:
        """How the first model was chosen; None where the person chose it."""
        route = self.route
        if route.kind == "asked" and not route.passed_over:
            return None
        first, *behind = route.candidates
        lines = [
            *(
                (c.model_id, f"{c.score:g} points, this one has {first.score:g}")
                for c in behind
                if route.kind == "auto"
            ),
            *((each.model_id, each.reason) for each in route.passed_over),
        ]
        return RouteNote(
            asked=route.asked,
            kind=route.kind,
            task=route.task,
            task_reasons=route.task_reasons,
            reasons=first.reasons,
            passed_over=tuple(lines[:NOTED]),
        )


class TurnPlanner:
    """Checks what a person asks for and makes a plan of it."""

    def __init__(self, store: ChatStore, router: Router, agents: dict[str, Agent]) -> None:
        self._store = store
        self._router = router
        self._agents = agents

    async def plan(self, chat_id: str, draft: TurnDraft) -> TurnPlan:
        """Raises what `TurnService.start` says. Nothing is written."""
        return await self.plan_in(await self._store.chat(chat_id), draft)

    async def plan_in(self, chat: Chat, draft: TurnDraft) -> TurnPlan:
        """The same for a chat that perhaps nobody has kept yet."""
        agent = self._agent(draft.agent_id or chat.agent_id)
        if draft.agent is not None:
            agent = Agent(id=agent.id, **dict(draft.agent))
        parameters = (draft.parameters or chat.parameters).over(agent.parameters)
        if draft.content is None:
            question = await self._question_again(chat, draft.parent_id)
            history = await self._store.branch(chat.id, question.id)
        else:
            parent = draft.parent_id if "parent_id" in draft.model_fields_set else chat.head_id
            history = await self._store.branch(chat.id, parent)
            question = new_message(chat.id, parent_id=parent, role="user", content=draft.content)
            history = [*history, question]
        need = Need(
            text=question.content,
            agent_id=agent.id,
            tokens=tokens_in(message.content for message in history),
            vision="vision" in agent.needs,
            tools="tools" in agent.needs or bool(agent.tools),
            reasoning="reasoning" in agent.needs,
            alternatives=agent.models,
        )
        route = await self._router.route(draft.model_id or chat.model_id, need)
        _require_talk(route)
        return TurnPlan(chat, route, agent, parameters, history, question)

    def _agent(self, agent_id: str | None) -> Agent:
        if agent_id is None:
            return next(iter(self._agents.values()))
        try:
            return self._agents[agent_id]
        except KeyError:
            raise no_agent(agent_id, self._agents) from None

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


def check_content(draft: TurnDraft) -> None:
    """Raises MessageEmpty or MessageTooLong."""
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


def new_message(chat_id: str, *, parent_id: str | None, role: str, content: str) -> Message:
    """A message that nobody has kept yet."""
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


def as_sent(plan: TurnPlan, model: ModelInfo) -> tuple[ChatMessage, ...]:
    """The conversation as the provider gets it: instructions first, empty answers left out.

    Neighbours of one role are joined: many chat templates insist on taking turns.
    """
    system = plan.parameters.system_prompt
    if system is None:
        now = datetime.now().astimezone()
        system = filled(plan.agent.instructions, agent=plan.agent.name, model=model, now=now)
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


# What stands between the conversation and the question in a task.
NOW_ASKS = "\n\nThe person now asks:\n\n"


def as_task(plan: TurnPlan) -> str:
    """The question for an agent that works with tools, with the conversation before it."""
    *before, question = plan.history
    told = [message for message in before if message.content.strip()]
    if not told:
        return question.content
    names = {"user": "Person", "assistant": "You"}
    lines = [f"{names.get(each.role, each.role)}: {each.content.strip()}" for each in told]
    said = "\n\n".join(lines)
    return f"The conversation so far:\n\n{said}{NOW_ASKS}{question.content}"


def _require_talk(route: Route) -> None:
    model = route.candidates[0].model
    if model.kind == "embedding":
        raise BadParameter(
            f"{model.name} makes embeddings; it cannot chat.",
            hint="Pick a language model.",
        )
