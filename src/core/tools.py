"""Tools of MCP servers: what they are, what calling one gives, and who calls them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import Field

from core.value import Value

ApprovalMode = Literal[
    "ask",  # a person says yes to each call
    "read-only",  # what only reads runs, all else is asked about
    "auto",  # runs
]
OnProgress = Callable[[float, float | None, str], None]
"""Hears how far a call is: done, of how much (None: not known), and the server's words."""


class Tool(Value):
    """One tool of one server."""

    server: str
    """The configured name."""
    name: str
    """The server's own name for it."""
    description: str = ""
    """Foreign text."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """JSON schema of what it takes."""
    read_only: bool | None = None
    """What the server says of it; None where it says nothing. Never a promise."""
    destructive: bool | None = None
    open_world: bool | None = None
    """Whether it reaches beyond this machine."""
    approval: ApprovalMode | None = None
    """What a person chose for it; None where nobody did."""
    tokens: int = 0
    """About what its description costs in each request."""
    trust: str = ""
    """Hash of its server as a person trusts it; empty where nobody says. A lasting yes is bound to it."""
    trust_of_all: str = ""
    """The same together with all tools of the server."""

    @property
    def full_name(self) -> str:
        """`server.tool`, unique over all servers."""
        return f"{self.server}.{self.name}"


class ToolImage(Value):
    """A picture a tool gave back."""

    media_type: str
    data: str
    """Base64."""


class ToolResult(NamedTuple):
    """What a call gave back. All of it is foreign text."""

    text: str
    """Whole, however long."""
    is_error: bool = False
    """The tool itself says that it failed."""
    images: tuple[ToolImage, ...] = ()
    structured: Mapping[str, Any] | None = None


class ToolBox(Protocol):
    """All tool servers a person has trusted."""

    async def tools(self, servers: Sequence[str]) -> tuple[Tool, ...]:
        """The switched-on tools of these servers, which are started if need be.

        Raises ToolServerNotFound (with the closest names), ToolServerNotTrusted (never started, or
        changed since), ToolServerOff or ToolServerFailed (with the end of its log).
        """
        ...

    def using(self, servers: Sequence[str]) -> AbstractContextManager[None]:
        """Whoever goes on using these keeps them from being ended for idleness meanwhile."""
        ...

    async def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        seconds: float,
        on_progress: OnProgress | None = None,
    ) -> ToolResult:
        """Call it. Cancelling this cancels the call at the server.

        Raises ToolNotFound, ToolTimeout, ToolServerFailed (it died; the next call starts it anew)
        or another ToolError.
        """
        ...
