"""What is said in a conversation and how a provider answers."""

from collections.abc import AsyncGenerator
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, Field

from core.value import Value
from core.wire import WireLog

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls"]


class ChatMessage(Value):
    """One message as a provider gets it."""

    role: Role
    content: str


class Parameters(Value):
    """Sampling and instructions of one answer. None leaves it to the agent, then to the provider."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=1000)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    system_prompt: str | None = Field(default=None, max_length=100_000)

    def over(self, other: "Parameters") -> "Parameters":
        """These, with what is None here taken from `other`."""
        mine = self.model_dump(exclude_none=True)
        return Parameters(**{**other.model_dump(exclude_none=True), **mine})


class ChatRequest(Value):
    """Everything a provider needs to continue a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    model_id: str
    """The provider's own id of the model."""
    instance_id: str | None = None
    """The instance a turn is bound to; asked for instead of the model where there is one."""
    messages: tuple[ChatMessage, ...]
    parameters: Parameters = Parameters()
    wire: WireLog | None = Field(default=None, exclude=True, repr=False)
    """Where an adapter that can do so notes what it sends and gets."""


# The first two below travel once a token; NamedTuples cost a tenth of a pydantic model.


class ReasoningDelta(NamedTuple):
    """A piece of thinking."""

    content: str


class MessageDelta(NamedTuple):
    """A piece of the answer."""

    content: str


class WasThinking(NamedTuple):
    """All pieces of the answer so far were thinking: only now the model said where it ends."""


class PromptProgress(NamedTuple):
    """The prompt is being read; `fraction` 0 to 1, None when the server does not say."""

    fraction: float | None


class Answered(NamedTuple):
    """The answer is whole. Always the last event of a stream that ended well."""

    finish_reason: FinishReason
    model_id: str | None
    """What the server says answered; may differ from what was asked."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    raw_stats: dict[str, Any] | None = None


ChatEvent = ReasoningDelta | MessageDelta | WasThinking | PromptProgress | Answered
ChatStream = AsyncGenerator[ChatEvent]
