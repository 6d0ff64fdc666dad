"""What a person sees of a tool server, and what the service needs of a running one."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from core.errors import Conflict, RequestError
from core.tool_entries import START_SECONDS, FileProblem, ServerEntry, Transport
from core.tools import ApprovalMode, OnProgress, Tool, ToolResult
from core.value import Value

ToolServerState = Literal[
    "not_trusted",  # nobody has said yes to it yet
    "changed",  # it is not what somebody said yes to
    "off",
    "idle",  # not running; the next call starts it
    "asleep",  # it was ended since nobody used it; the next call starts it
    "starting",
    "ready",
    "needs_sign_in",  # it wants a person to sign in first
    "failed",  # the last start or call failed; the next call tries again
]


class ToolCommandRefused(RequestError):
    """A command must not come from a web request, unless the settings allow it."""

    code = "tool_command_refused"


class ToolServerChanged(Conflict):
    """The hash given is not that of the server as it is now."""

    code = "tool_server_changed"


class ToolInfo(Value):
    """One tool as the page shows it. Its texts are foreign."""

    name: str
    description: str = ""
    read_only: bool | None = None
    destructive: bool | None = None
    open_world: bool | None = None
    tokens: int = 0
    enabled: bool = True
    approval: ApprovalMode | None = None
    """What a person chose; None: as for the server."""
    changed: str = ""
    """`new`, or what changed since somebody said yes; empty where nothing did."""
    before: str | None = None
    """Its description when somebody said yes, where that is another one."""
    arguments: dict[str, Any] | None = None
    """JSON schema; only where one server is asked for."""


class ServerDifference(Value):
    """One thing that is no longer as it was when somebody said yes."""

    what: str
    """Such as `command`, `folder` or `variables`."""
    before: str
    now: str


class ToolServer(Value):
    """One tool server: where it comes from, what it would run, how it is."""

    name: str
    named: str = ""
    """Its name in the file, where that is another one."""
    source: str
    """The file that names it."""
    ours: bool = False
    """That file is LM Desk's own, so it can be changed and removed here."""
    also_in: tuple[str, ...] = ()
    """Files whose server of the same name is not used."""
    transport: Transport
    command: str
    """The exact command line, or address, in full. Shown before anybody says yes to it."""
    program: str = ""
    """The file its command is at the moment, in full; empty where there is none."""
    leads_to: str = ""
    """What that file is a link to; empty where it is none."""
    cwd: str | None = None
    env_names: tuple[str, ...] = ()
    """Variables it gets; their values are never shown."""
    header_names: tuple[str, ...] = ()
    signed_in: bool = False
    """There is a key for it that signing in gave. The key itself is never shown."""
    signing_in: bool = False
    """A person was told where to sign in to it, and is awaited."""
    state: ToolServerState
    message: str = ""
    hint: str = ""
    hash: str
    """What `trust` has to be given."""
    trusted: bool = False
    """Somebody said yes to it as it is now."""
    differences: tuple[ServerDifference, ...] = ()
    """What is not as it was at that yes; of tools each says it itself."""
    enabled: bool
    approval: ApprovalMode | None = None
    start_seconds: float = START_SECONDS
    call_seconds: float | None = None
    inherit_env: tuple[str, ...] = ()
    tools: tuple[ToolInfo, ...] = ()
    """Known from its last start; empty before the first one."""
    tokens: int = 0
    """What its switched-on tools cost in each request, about."""
    title: str = ""
    """What it calls itself."""
    protocol: str | None = None
    """The protocol's version, while it runs."""
    log: str | None = None
    """The end of what it wrote to its log; only where one server is asked for."""


class ToolServerList(Value):
    """All tool servers, and what is wrong in the files."""

    servers: tuple[ToolServer, ...]
    problems: tuple[FileProblem, ...] = ()
    files: tuple[str, ...] = ()
    """Files that were read; of two servers with one name the one of the earlier file counts."""


class ToolSession(Protocol):
    """A server that is up. Everything it says is foreign text."""

    title: str
    protocol: str

    @property
    def ended(self) -> bool:
        """It is gone, or can no longer be talked to."""
        ...

    async def tools(self) -> tuple[Tool, ...]:
        """Asked now. Raises ToolError."""
        ...

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        seconds: float,
        on_progress: OnProgress | None = None,
    ) -> ToolResult:
        """Raises ToolTimeout, ToolServerFailed. Cancelling it tells the server."""
        ...

    def end(self) -> None:
        """Begin to end it: whoever waits for an answer of it is told at once."""
        ...

    async def aclose(self) -> None:
        """End it; no process of it is left."""
        ...


class SessionDoor(Protocol):
    """Starts and reaches tool servers."""

    async def open(
        self,
        entry: ServerEntry,
        *,
        inherit_env: tuple[str, ...],
        seconds: float,
        on_tools_changed: Callable[[], None],
    ) -> ToolSession:
        """Raises ToolServerFailed with the end of its log."""
        ...

    async def log_end(self, server: str) -> str:
        """The last lines it wrote; empty where it wrote nothing."""
        ...

    async def aclose(self) -> None: ...
