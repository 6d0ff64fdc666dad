"""The client's calls about runs."""

from typing import Any
from urllib.parse import quote

import httpx

from app.connection import Connection
from app.replies import Reply
from core.runs import AllowedTool, RunInfo, RunPage
from core.tool_server import ToolServerList
from core.tools import ToolImage

# Stopping waits for the model and the tools to let go.
PATIENT = httpx.Timeout(None, connect=3.0)


class RunStarted(Reply):
    """A run is under way."""

    run_id: str
    model_id: str


class WholeResult(Reply):
    """All that a call gave back. Foreign text."""

    text: str
    is_error: bool = False
    images: tuple[ToolImage, ...] = ()


class RunCalls(Connection):
    """What can be asked of the API under `/runs`.

    Drafts and decisions go as they were made: what is wrong in one comes back with its field.
    """

    async def runs(
        self, *, chat_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> RunPage:
        """Newest first, without their steps."""
        return await self._get(RunPage, "/runs", chat_id=chat_id, limit=limit, offset=offset)

    async def run(self, run_id: str) -> RunInfo:
        return await self._get(RunInfo, _path(run_id))

    async def start_run(self, draft: dict[str, Any]) -> RunStarted:
        """Tool servers are started for it, which may take a while."""
        return await self._send(RunStarted, "POST", "/runs", draft, timeout=PATIENT)

    async def decide_call(self, run_id: str, call_id: str, decision: dict[str, Any]) -> None:
        path = f"{_path(run_id)}/approvals/{quote(call_id, safe='')}"
        await self._request("POST", path, json=decision)

    async def call_result(self, run_id: str, call_id: str) -> WholeResult:
        path = f"{_path(run_id)}/calls/{quote(call_id, safe='')}/result"
        return await self._get(WholeResult, path)

    async def stop_run(self, run_id: str) -> RunInfo:
        """Returns when it has ended."""
        return await self._send(RunInfo, "POST", f"{_path(run_id)}/stop", None, timeout=PATIENT)

    async def delete_run(self, run_id: str) -> None:
        """It is stopped first; `restore_run` brings it back."""
        await self._request("DELETE", _path(run_id), timeout=PATIENT)

    async def restore_run(self, run_id: str) -> RunInfo:
        """Undo a delete."""
        return await self._send(RunInfo, "POST", f"{_path(run_id)}/restore", None)

    async def allowed_tools(self) -> list[AllowedTool]:
        """What was let run for good, newest first."""
        return await self._get(list[AllowedTool], "/runs/allowed")

    async def forget_allowed(self, server: str, tool: str | None) -> None:
        """Ask about it again."""
        path = f"/runs/allowed/{quote(server, safe='')}"
        await self._request("DELETE", path, params={} if tool is None else {"tool": tool})

    async def run_servers(self) -> ToolServerList:
        """The tool servers a run may be given. None is started."""
        return await self._get(ToolServerList, "/tool-servers")


def _path(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}"
