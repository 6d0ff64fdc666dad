"""The client's calls about tool servers."""

from typing import Any
from urllib.parse import quote

import httpx

from app.connection import Connection
from core.tool_server import ToolServer, ToolServerList

# A first start may fetch a program.
PATIENT = httpx.Timeout(None, connect=3.0)


class ToolCalls(Connection):
    """What can be asked of the API under `/tool-servers`."""

    async def tool_servers(self) -> ToolServerList:
        """All there are, and what is wrong in the files. None is started."""
        return await self._get(ToolServerList, "/tool-servers")

    async def tool_server(self, name: str) -> ToolServer:
        """One, with its tools' arguments and the end of its log."""
        return await self._get(ToolServer, _path(name))

    async def refresh_tool_servers(self) -> ToolServerList:
        return await self._send(
            ToolServerList, "POST", "/tool-servers/refresh", None, timeout=PATIENT
        )

    async def change_tool_server(
        self, method: str, name: str, path: str, body: object = None
    ) -> ToolServer:
        """One of the calls below a server that change something."""
        return await self._send(ToolServer, method, f"{_path(name)}/{path}", body, timeout=PATIENT)

    async def choose_tool(self, name: str, tool: str, choice: dict[str, Any]) -> ToolServer:
        """Switch a tool, and say whether its calls are asked about."""
        return await self.change_tool_server("PUT", name, f"tools/{quote(tool, safe='')}", choice)

    async def add_tool_server(self, asked: dict[str, Any]) -> ToolServer:
        """Into LM Desk's own mcp.json."""
        return await self._send(ToolServer, "POST", "/tool-servers", asked)

    async def remove_tool_server(self, name: str) -> None:
        """Out of LM Desk's own mcp.json."""
        await self._request("DELETE", _path(name), timeout=PATIENT)


def _path(name: str) -> str:
    return f"/tool-servers/{quote(name, safe='')}"
