"""The tools LM Desk offers to MCP clients such as Claude, Cursor or LM Studio itself.

Importing this takes a second, for the SDK: whoever needs it imports it when it is needed.
"""

from collections.abc import Awaitable
from typing import Any, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from api.mcp_server.calls import WAIT_SECONDS, DeskCalls, OnProgress, Refused
from core.version import VERSION

INSTRUCTIONS = (
    "LM Desk runs language models on this person's own machine. Ask a local model with"
    " chat_completion, or hand it a whole task with tools with autonomous_with_mcp. Long calls"
    " return after wait_s seconds with a run_id; get_run looks again. Runs that nobody watches only"
    " read: what would change something waits for the person at the desk."
)
# A run that a client started has nobody beside it who could say yes.
UNATTENDED = "read-only"

T = TypeVar("T")


def build_server(calls: DeskCalls) -> MCPServer[Any]:
    """A new server over these calls."""
    server: MCPServer[Any] = MCPServer(
        "lmdesk", title="LM Desk", version=VERSION, instructions=INSTRUCTIONS
    )
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    changes = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
    runs = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=True)
    tools = Tools(calls)
    for function, annotations in (
        (tools.list_models, reads),
        (tools.health_check, reads),
        (tools.get_current_model, reads),
        (tools.chat_completion, changes),
        (tools.load_model, changes),
        (tools.unload_model, changes),
        (tools.autonomous_with_mcp, runs),
        (tools.autonomous_with_multiple_mcps, runs),
        (tools.autonomous_discover_and_execute, runs),
        (tools.get_run, reads),
        (tools.cancel_run, changes),
    ):
        server.add_tool(function, annotations=annotations)
    return server


class Tools:
    """Their names, arguments and descriptions are what a client sees."""

    def __init__(self, calls: DeskCalls) -> None:
        self._calls = calls

    async def list_models(self) -> list[dict[str, Any]]:
        """Every model that can be asked: id, whether it is in memory, context, what it can do."""
        return await _said(self._calls.models())

    async def health_check(self) -> dict[str, Any]:
        """Whether LM Desk can answer, and how each of its providers is."""
        return await _said(self._calls.health())

    async def get_current_model(self) -> dict[str, Any]:
        """The language model in memory, or null when none is."""
        return await _said(self._calls.current_model())

    async def chat_completion(
        self,
        prompt: str,
        system_prompt: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int = 1024,
    ) -> dict[str, Any]:
        """Ask a local model one question. Without a model LM Desk picks one that suits it."""
        if not prompt.strip():
            raise ToolError("The prompt is empty: write what the model is to answer.")
        messages = [{"role": "user", "content": prompt}]
        if system_prompt:
            messages.insert(0, {"role": "system", "content": system_prompt})
        body: dict[str, Any] = {"model": model or "auto", "messages": messages}
        body |= {"max_tokens": max_tokens}
        if temperature is not None:
            body["temperature"] = temperature
        return await _said(self._calls.chat(body))

    async def load_model(
        self,
        model: str,
        context: Context,
        context_length: int | None = None,
        wait_s: float = WAIT_SECONDS,
    ) -> dict[str, Any]:
        """Bring a model into memory; status is `done`, or `running` when wait_s is over."""
        return await _said(self._calls.load(model, context_length, wait_s, _progress(context)))

    async def unload_model(self, model: str, force: bool = False) -> dict[str, Any]:
        """Take a model out of memory; with force also one that is answering."""
        return await _said(self._calls.unload(model, force=force))

    async def _autonomous(
        self,
        servers: list[str] | None,
        task: str,
        max_rounds: int,
        max_tokens: int | None,
        model: str | None,
        wait_s: float,
        context: Context,
    ) -> dict[str, Any]:
        """A run with the tools of these servers; None: of all that are trusted."""
        body: dict[str, Any] = {
            "task": task,
            "servers": servers,
            "max_rounds": max_rounds,
            "max_tokens": max_tokens,
            "model": model,
            "approve": UNATTENDED,
        }
        known = {key: value for key, value in body.items() if value is not None}
        start = self._calls.start_run if servers is not None else self._calls.start_run_with_all
        return await _said(start(known, wait_s, _progress(context)))

    async def autonomous_with_mcp(
        self,
        mcp_name: str,
        task: str,
        context: Context,
        max_rounds: int = 20,
        max_tokens: int | None = None,
        model: str | None = None,
        wait_s: float = WAIT_SECONDS,
    ) -> dict[str, Any]:
        """Have a local model work on a task by itself with the tools of one MCP server."""
        return await self._autonomous(
            [mcp_name], task, max_rounds, max_tokens, model, wait_s, context
        )

    async def autonomous_with_multiple_mcps(
        self,
        mcp_names: list[str],
        task: str,
        context: Context,
        max_rounds: int = 20,
        max_tokens: int | None = None,
        model: str | None = None,
        wait_s: float = WAIT_SECONDS,
    ) -> dict[str, Any]:
        """The same with the tools of several MCP servers."""
        return await self._autonomous(
            mcp_names, task, max_rounds, max_tokens, model, wait_s, context
        )

    async def autonomous_discover_and_execute(
        self,
        task: str,
        context: Context,
        max_rounds: int = 20,
        max_tokens: int | None = None,
        model: str | None = None,
        wait_s: float = WAIT_SECONDS,
    ) -> dict[str, Any]:
        """The same with every MCP server the person has trusted; the model finds its tools.

        Servers that cannot be used are left out; `left_out` says which, and why.
        """
        return await self._autonomous(None, task, max_rounds, max_tokens, model, wait_s, context)

    async def get_run(self, run_id: str, context: Context, wait_s: float = 0.0) -> dict[str, Any]:
        """How a run is: state, steps so far, output. Waits up to wait_s for its end."""
        return await _said(self._calls.run(run_id, wait_s, _progress(context)))

    async def cancel_run(self, run_id: str) -> dict[str, Any]:
        """End a run; what it did stays readable."""
        return await _said(self._calls.cancel_run(run_id))


async def _said(call: Awaitable[T]) -> T:
    try:
        return await call
    except Refused as refused:
        raise ToolError(str(refused)) from refused


def _progress(context: Context) -> OnProgress:
    async def told(share: float, words: str) -> None:
        await context.report_progress(share, message=words)

    return told
