"""One running tool server, spoken to through the official MCP client, in either protocol era."""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import httpx2
import mcp_types
from mcp import Client, MCPError
from pydantic import ValidationError

from core.errors import ToolError, ToolServerFailed, ToolTimeout
from core.tool_sign_in import ToolServerNeedsSignIn
from core.tools import OnProgress, Tool, ToolResult
from core.version import VERSION
from infrastructure.tools import itself
from infrastructure.tools.remote import AddressRefused
from infrastructure.tools.replies import result_of, tool_of
from infrastructure.tools.ways import Way

log = logging.getLogger(__name__)

# A list of tools is at hand; a server that thinks longer about it is stuck.
LIST_SECONDS = 30.0
# So long the end of one that died is waited for, to say why.
END_SECONDS = 6.0
# So long a remote server may take to hear that its session is over.
CLOSE_SECONDS = 2.0
# A server that hands out pages for ever is broken.
MAX_PAGES = 100
_OF_THE_WAY = frozenset(
    {mcp_types.INTERNAL_ERROR, mcp_types.INVALID_REQUEST, mcp_types.METHOD_NOT_FOUND}
)


class Session:
    """A task of its own holds the client; anybody may call through it, at the same time."""

    def __init__(self, server: str, way: Way, on_tools_changed: Callable[[], None]) -> None:
        self._server = server
        self._way = way
        self._on_tools_changed = on_tools_changed
        self._client: Client | None = None
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.title = ""
        self.protocol = ""

    @property
    def ended(self) -> bool:
        return self._client is None or self._way.ended.is_set()

    async def open(self, seconds: float) -> None:
        """Start it. Raises ToolServerFailed."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(ready, seconds))
        try:
            await asyncio.shield(ready)
        except BaseException:
            await self.aclose()
            raise

    def end(self) -> None:
        """Begin to end it: whoever waits for an answer of it is told at once."""
        self._closing = True
        if self._client is None:
            self._scope.cancel()
        else:
            self._way.ended.set()

    async def aclose(self) -> None:
        """End it; returns when nothing of it is left, even if we are cancelled meanwhile."""
        self.end()
        if self._task is None:
            return
        cancelled = False
        while not self._task.done():
            try:
                await asyncio.shield(self._task)
            except asyncio.CancelledError:
                cancelled = not self._task.cancelled()
        if cancelled:
            raise asyncio.CancelledError

    async def _live(self, ready: asyncio.Future[None], seconds: float) -> None:
        failure: ToolServerFailed | None = None
        try:
            with self._scope:
                self._scope.deadline = anyio.current_time() + seconds
                async with Client(
                    self._way.streams(),
                    message_handler=self._heard,
                    client_info=mcp_types.Implementation(name=itself.NAME, version=VERSION),
                    cache=None,
                ) as client:
                    self._scope.deadline = math.inf
                    failure = self._introduce(client)
                    if failure is None:
                        ready.set_result(None)
                        await self._way.ended.wait()
                    # A remote server is told of it, if it listens.
                    self._scope.deadline = anyio.current_time() + CLOSE_SECONDS
        except ToolServerFailed as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the client wraps whatever the wire did in groups
            failure = failure or self._failed("did not start", _leaf(error))
            if ready.done():
                log.info("tool server %s ended: %s", self._server, failure.message)
        finally:
            self._client = None
            self._way.ended.set()
            if not ready.done():
                ready.set_exception(failure or self._too_slow(seconds))
                # Nobody may be there to hear it.
                ready.exception()

    def _introduce(self, client: Client) -> ToolServerFailed | None:
        """Take down what it says of itself; why it cannot be used, where it cannot."""
        about = client.server_info
        if about is not None and about.name == itself.NAME:
            return ToolServerFailed(
                f"The tool server {self._server} cannot be used: {itself.PROBLEM}",
                hint=itself.HINT,
            )
        self._client = client
        self.protocol = client.protocol_version
        if about is not None:
            self.title = " ".join(
                part for part in (about.title or about.name, about.version) if part
            )
        return None

    async def _heard(self, message: object) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._on_tools_changed()

    # -- asking ----------------------------------------------------------------------------------

    async def tools(self) -> tuple[Tool, ...]:
        """All its tools, now. Raises ToolServerFailed, ToolTimeout."""
        client = self._alive()
        found: list[Tool] = []
        cursor: str | None = None
        try:
            with self._errors("listed its tools"), self._deadline(LIST_SECONDS, "list its tools"):
                for _ in range(MAX_PAGES):
                    page = await client.list_tools(cursor=cursor, cache_mode="bypass")
                    found += (tool_of(self._server, tool) for tool in page.tools)
                    cursor = page.next_cursor
                    if cursor is None:
                        break
        except _Lost as lost:
            raise await self._told_of(lost) from lost
        return tuple({tool.name: tool for tool in found}.values())

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        seconds: float,
        on_progress: OnProgress | None = None,
    ) -> ToolResult:
        """Raises ToolTimeout, ToolServerFailed; what the server itself refuses is a result."""
        client = self._alive()

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            if on_progress is not None:
                on_progress(progress, total, message or "")

        try:
            with self._errors(f"worked on {tool}"), self._deadline(seconds, f"answer {tool}"):
                result = await client.call_tool(
                    tool, dict(arguments), progress_callback=heard if on_progress else None
                )
        except _Refused as refused:
            return ToolResult(refused.text, is_error=True)
        except _Lost as lost:
            raise await self._told_of(lost) from lost
        return result_of(result)

    async def _told_of(self, lost: "_Lost") -> ToolServerFailed:
        """Its end in words: only once nothing of it is left its status and its log are known."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=END_SECONDS)
        failure = self._failed(lost.what, lost.error)
        end = "" if failure.hint else await asyncio.to_thread(self._way.last_words)
        return ToolServerFailed(failure.message, hint=f"Its log ends: {end}") if end else failure

    def _alive(self) -> Client:
        if self._client is None or self._way.ended.is_set():
            raise self._failed("is not running", None)
        return self._client

    def _deadline(self, seconds: float, what: str) -> "_Deadline":
        return _Deadline(
            seconds, f"The tool server {self._server} did not {what} within {seconds:g} seconds."
        )

    def _errors(self, doing: str) -> "_Errors":
        return _Errors(self, doing)

    def _failed(self, what: str, error: BaseException | None) -> ToolServerFailed:
        why = self._way.why() or _words(error)
        if self._closing:
            why = "It was stopped."
        elif self._way.wants_sign_in:
            return ToolServerNeedsSignIn(
                f"The tool server {self._server} wants you to sign in before it can be used.",
                hint="Press Sign in under Tools, or put a token into its headers.",
                challenge=self._way.challenge,
            )
        return ToolServerFailed(
            f"The tool server {self._server} {what}. {why}".rstrip(),
        )

    def _too_slow(self, seconds: float) -> ToolServerFailed:
        if self._closing:
            return ToolServerFailed(f"The tool server {self._server} was stopped as it started.")
        return self._failed(f"did not answer within {seconds:g} seconds", None)

    def translated(self, error: Exception, doing: str) -> Exception:
        """An error of the client's in our words."""
        over = self._way.ended.is_set() or _is_transport(error, lost=self._way.lost)
        if isinstance(error, MCPError) and not over:
            return _Refused(error.message)
        if isinstance(error, ValidationError | RuntimeError) and not over:
            return ToolError(
                f"What the tool server {self._server} answered cannot be used: {_words(error)}"
            )
        # The next call starts it anew.
        self._way.ended.set()
        return _Lost(f"ended while it {doing}", error)


class _Refused(Exception):
    """The server answered with an error of the protocol."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class _Lost(Exception):
    """The server is gone."""

    def __init__(self, what: str, error: Exception) -> None:
        super().__init__(what)
        self.what = what
        self.error = error


class _Errors:
    """Turns the client's exceptions into ours."""

    def __init__(self, session: Session, doing: str) -> None:
        self._session = session
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ToolError) or not isinstance(error, Exception):
            return
        raise self._session.translated(_leaf(error), self._doing) from error


class _Deadline:
    """Raises ToolTimeout with this sentence when the time is over."""

    def __init__(self, seconds: float, sentence: str) -> None:
        self._seconds = seconds
        self._sentence = sentence
        self._scope = anyio.CancelScope()

    def __enter__(self) -> None:
        self._scope.deadline = anyio.current_time() + self._seconds
        self._scope.__enter__()

    def __exit__(self, *details: Any) -> bool | None:
        passed = self._scope.__exit__(*details)
        if self._scope.cancelled_caught:
            raise ToolTimeout(self._sentence, hint="Give it more time, or less to do.")
        return passed


def _leaf(error: BaseException) -> Exception:
    """The first error inside groups of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else RuntimeError(str(error))


def _is_transport(error: Exception, *, lost: bool) -> bool:
    """Whether the way to the server is lost, rather than the call."""
    if isinstance(error, MCPError):
        # An HTTP error without an error of the protocol in it, such as for a session it forgot.
        made_up = error.code in _OF_THE_WAY and lost
        return made_up or error.code == mcp_types.CONNECTION_CLOSED
    return isinstance(error, httpx2.TransportError | AddressRefused | OSError)


def _words(error: BaseException | None) -> str:
    if error is None:
        return ""
    text = str(error).strip().split("\n")[0][:500] or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
