"""The client's calls about tool servers."""

from typing import Any
from urllib.parse import quote

import httpx

from app.connection import Connection
from app.refusals import ServerUnreachable
from core.tool_server import ToolServer, ToolServerList
from core.tool_sign_in import SignInPage

# A first start may fetch a program.
PATIENT = httpx.Timeout(None, connect=3.0)

COME_BACK = "/tool-servers/oauth/callback"


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

    async def arrange_tool_server(self, name: str, changes: dict[str, Any]) -> ToolServer:
        """Change how it runs; null goes back to the default."""
        return await self._send(ToolServer, "PATCH", _path(name), changes, timeout=PATIENT)

    async def sign_in_to_tool_server(self, name: str, origin: str) -> SignInPage:
        """Where a person signs in, who came to the page at this origin."""
        body = {"origin": origin}
        return await self._send(SignInPage, "POST", f"{_path(name)}/sign-in", body, timeout=PATIENT)

    async def come_back_to_tool_server(self, query: bytes) -> tuple[int, bytes, dict[str, str]]:
        """The page for a browser that comes back with this query: status, HTML, headers."""
        try:
            answer = await self._http.get(f"/api/v1{COME_BACK}", params=query, timeout=PATIENT)
        except httpx.TransportError as error:
            raise ServerUnreachable() from error
        kept = ("content-type", "content-security-policy", "cache-control", "referrer-policy")
        headers = {name: answer.headers[name] for name in kept if name in answer.headers}
        return answer.status_code, answer.content, headers

    async def add_tool_server(self, asked: dict[str, Any]) -> ToolServer:
        """Into LM Desk's own mcp.json."""
        return await self._send(ToolServer, "POST", "/tool-servers", asked)

    async def remove_tool_server(self, name: str) -> None:
        """Out of LM Desk's own mcp.json."""
        await self._request("DELETE", _path(name), timeout=PATIENT)


def _path(name: str) -> str:
    return f"/tool-servers/{quote(name, safe='')}"
