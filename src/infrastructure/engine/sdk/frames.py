"""What the client libraries send and get: frames, parameters and errors of LM Studio's WebSocket."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from core.errors import DeskError, ModelUnloaded
from infrastructure.engine.wire import Json

T = TypeVar("T")


class Parameter(BaseModel):
    """What a call brings with it. Unknown keys are dropped, as LM Studio does."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )


class Nothing(Parameter):
    """Of calls without a parameter."""


class Authentication(Parameter):
    """The first frame."""

    auth_version: Literal[1]
    client_identifier: str = Field(max_length=256)
    client_passkey: str = Field(max_length=256)


class RpcCall(Parameter):
    """A question with one answer."""

    type: Literal["rpcCall"]
    endpoint: str
    call_id: int
    parameter: Any = None


class ChannelCreate(Parameter):
    """A question with many answers."""

    type: Literal["channelCreate"]
    endpoint: str
    channel_id: int
    creation_parameter: Any = None


class ChannelSend(Parameter):
    """A further word on a channel."""

    type: Literal["channelSend"]
    channel_id: int
    message: Any
    ack_id: int | None = None


class ChannelAck(Parameter):
    """We ask for none, but a client may send one."""

    type: Literal["channelAck"]
    channel_id: int
    ack_id: int


class KeepAlive(Parameter):
    """Wants an answer, to see that we are there."""

    type: Literal["keepAlive"]


class Complaint(Parameter):
    """The client did not understand us."""

    type: Literal["communicationWarning"]
    warning: str


Frame = RpcCall | ChannelCreate | ChannelSend | ChannelAck | KeepAlive | Complaint
FRAME: Final[TypeAdapter[Frame]] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])


class CallError(Exception):
    """Goes to the caller as `rpcError` or `channelError`."""

    def __init__(
        self, title: str, *, suggestion: str | None = None, display: Json | None = None
    ) -> None:
        super().__init__(title)
        self.title = title
        self.suggestion = suggestion
        self.display = display

    @classmethod
    def of(cls, error: DeskError) -> "CallError":
        """The same in this protocol's shape."""
        display = None
        if isinstance(error, ModelUnloaded):
            display = {"code": "generic.specificModelUnloaded"}
        return cls(error.message, suggestion=error.hint or None, display=display)

    @property
    def body(self) -> Json:
        told: Json = {"title": self.title, "rootTitle": self.title}
        told |= {"suggestion": self.suggestion} if self.suggestion else {}
        told |= {"displayData": self.display} if self.display else {}
        return told


class Channel(Protocol):
    """The server's end of a channel."""

    async def send(self, message: Json) -> None: ...

    async def unless_ended(self, work: Awaitable[T]) -> T:
        """Do the work. Raises EndedByClient when the client no longer wants it."""
        ...


class EndedByClient(Exception):
    """A channel's `cancel` or `stop` came."""


@dataclass(frozen=True)
class Rpc:
    """Answers a question once; None is an answer without a result."""

    parameter: type[Parameter]
    run: Callable[[Any], Awaitable[object]]


@dataclass(frozen=True)
class Stream:
    """Answers until it returns; the channel is closed then."""

    parameter: type[Parameter]
    run: Callable[[Channel, Any], Awaitable[None]]


@dataclass(frozen=True)
class Namespace:
    """What one path of the server can be asked."""

    rpcs: dict[str, Rpc] = field(default_factory=dict)
    channels: dict[str, Stream] = field(default_factory=dict)
