"""Conversations as they are kept: a tree of messages under each chat."""

from typing import Literal

from core.chat import Parameters, Role
from core.models import ProcessingStatus
from core.value import Value

MessageStatus = Literal["done", "writing", "stopped", "failed", "interrupted"]
SearchMode = Literal["auto", "text", "semantic"]
UsedMode = Literal["text", "semantic"]
StopState = Literal["idle", "busy", "unknown"]


class StopProof(Value):
    """What the model did after its answer was stopped and the connection to it closed."""

    state: StopState
    seconds: float | None = None
    """How long after the stop it was idle, or was seen busy last."""
    doing: ProcessingStatus | None = None
    """What it still did, where it was busy."""


class TurnStats(Value):
    """What an answer cost. Seconds are wall time; None is "not known"."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    tokens_per_second: float | None = None
    time_to_first_token_seconds: float | None = None
    reasoning_seconds: float | None = None
    """From the first thought to the first word of the answer."""
    load_time_seconds: float | None = None
    total_seconds: float | None = None
    tool_calls: int | None = None
    """Of an answer that an agent worked out with tools; its run has the id of the answer's job."""
    stop_proof: StopProof | None = None
    """Only of stopped answers; comes up to three seconds after the rest."""


class Tried(Value):
    """A model that failed before its first word."""

    model_id: str
    """Full name."""
    code: str
    message: str


class RouteNote(Value):
    """How the model of an answer was chosen, where the person did not simply choose it."""

    asked: str
    """`auto`, or the name that was asked for."""
    kind: Literal["asked", "auto"]
    task: str
    task_reasons: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    """What counted for the model."""
    passed_over: tuple[tuple[str, str], ...] = ()
    """Other models by full name, each with the reason."""
    tried: tuple[Tried, ...] = ()
    """Those that failed before it, in order."""


class ModelTruth(Value):
    """Which model was asked and which answered."""

    asked: str
    """Full name."""
    answered: str | None = None
    """The provider's word for what answered: model or instance id."""
    instance_id: str | None = None
    asked_context: int | None = None
    got_context: int | None = None
    quantization: str | None = None
    route: RouteNote | None = None
    """Set where the model was chosen for the person, or another one failed first."""

    @property
    def other_answered(self) -> bool:
        """Whether the server named another model than the one asked for.

        Its key, its full name and the instance's id all count as the one asked for.
        """
        if self.answered is None:
            return False
        names = (self.asked, self.asked.partition(":")[2], self.instance_id or "")
        return self.answered.casefold() not in {name.casefold() for name in names}


class Problem(Value):
    """Why something ended badly."""

    code: str
    message: str
    hint: str = ""


class Message(Value):
    """One message in the tree of a chat."""

    id: str
    chat_id: str
    parent_id: str | None = None
    role: Role
    content: str = ""
    reasoning: str = ""
    status: MessageStatus = "done"
    reason: str | None = None
    """Why it ended as it did: `finish_reason`, or `model_changed`, `server_stopped`, …"""
    problem: Problem | None = None
    model: ModelTruth | None = None
    stats: TurnStats | None = None
    agent_id: str | None = None
    job_id: str | None = None
    created_at: float
    """Unix seconds."""
    siblings: tuple[str, ...] = ()
    """Ids of all children of the same parent, in order of birth, this one included."""


class Chat(Value):
    """A conversation, without its messages."""

    id: str
    title: str
    """Empty until the first message names it."""
    agent_id: str | None = None
    model_id: str | None = None
    """Full name of the model last used."""
    parameters: Parameters = Parameters()
    head_id: str | None = None
    """The last message of the branch on show."""
    created_at: float
    updated_at: float
    deleted_at: float | None = None
    comparison_id: str | None = None
    """The comparison it is a column of; then no list of chats shows it."""
    running_job_id: str | None = None
    """The turn being written, if any."""
    snippet: str | None = None
    """The place a search matched."""
    score: float | None = None
    """How similar its best message is to what was searched for, at most 1; None where the words match."""


class ChatPage(Value):
    """One page of the chat list, newest first."""

    chats: tuple[Chat, ...]
    total: int
    next_offset: int | None = None
    mode_used: UsedMode | None = None
    """How it was searched; None when nothing was searched for."""
    searched_with: str | None = None
    """Full name of the model that understood the query."""


class Conversation(Value):
    """A chat with the messages of the branch on show, oldest first."""

    chat: Chat
    messages: tuple[Message, ...]
