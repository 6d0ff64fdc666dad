"""What the Tools panel asks: the servers in words, a yes to one, its switches and its log."""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from app import wording
from app.client import DeskClient
from app.replies import Reply
from app.tools_client import COME_BACK
from core.tool_server import ToolServer, ToolServerList
from core.tools import ApprovalMode

STATES = {
    "not_trusted": "New: needs your yes",
    "changed": "Changed: needs your yes",
    "off": "Switched off",
    "idle": "Starts when it is wanted",
    "asleep": "Asleep: starts when it is wanted",
    "starting": "Starting…",
    "ready": "Running",
    "needs_sign_in": "Needs you to sign in",
    "failed": "Does not work",
}
LIGHTS = {"ready": "ok", "idle": "idle", "asleep": "idle", "starting": "wait", "off": "off"}


class Yes(Reply):
    """What somebody looked at."""

    hash: str


class Asking(Reply):
    """Whether calls are asked about."""

    approval: ApprovalMode | None = None


class Choice(Reply):
    """A tool's switch, and whether its calls are asked about."""

    tool: str
    enabled: bool = True
    approval: ApprovalMode | None = None


class Arrangement(Reply):
    """What is changed of how a server runs; null goes back to the default."""

    start_seconds: float | None = None
    call_seconds: float | None = None
    inherit_env: list[str] | None = None


class Address(Reply):
    """A remote server to be added."""

    name: str
    url: str
    headers: dict[str, str] = Field(default_factory=dict)
    allow_private: bool = False


def add_tools(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/tool-servers."""
    _add_looking(router, client)
    _add_choosing(router, client)


def add_return(client: DeskClient) -> APIRouter:
    """The way back from a server's sign-in page, where the API is elsewhere."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"/api/v1{COME_BACK}")
    async def come_back(request: Request) -> Response:
        query = request.url.query.encode()
        status, page, headers = await client.come_back_to_tool_server(query)
        return Response(page, status, headers)

    return router


def _add_looking(router: APIRouter, client: DeskClient) -> None:
    @router.get("/tool-servers")
    async def servers() -> dict[str, Any]:
        return list_view(await client.tool_servers())

    @router.post("/tool-servers/refresh")
    async def refresh() -> dict[str, Any]:
        return list_view(await client.refresh_tool_servers())

    @router.post("/tool-servers")
    async def add(asked: Address) -> dict[str, Any]:
        return server_view(await client.add_tool_server(asked.model_dump()))

    @router.get("/tool-servers/{name}/log")
    async def log(name: str) -> dict[str, Any]:
        return {"log": (await client.tool_server(name)).log or ""}

    @router.delete("/tool-servers/{name}", status_code=204)
    async def remove(name: str) -> None:
        await client.remove_tool_server(name)


def _add_choosing(router: APIRouter, client: DeskClient) -> None:
    @router.post("/tool-servers/{name}/trust")
    async def trust(name: str, yes: Yes) -> dict[str, Any]:
        return server_view(await client.change_tool_server("POST", name, "trust", yes.model_dump()))

    @router.post("/tool-servers/{name}/sign-in")
    async def sign_in(name: str, request: Request) -> dict[str, Any]:
        origin = request.headers.get("origin") or str(request.base_url)
        return (await client.sign_in_to_tool_server(name, origin.rstrip("/"))).model_dump()

    @router.patch("/tool-servers/{name}")
    async def arrange(name: str, asked: Arrangement) -> dict[str, Any]:
        changes = asked.model_dump(exclude_unset=True)
        return server_view(await client.arrange_tool_server(name, changes))

    @router.post("/tool-servers/{name}/{act}")
    async def act(
        name: str, act: Literal["distrust", "enable", "disable", "restart", "sign-out"]
    ) -> dict[str, Any]:
        return server_view(await client.change_tool_server("POST", name, act))

    @router.put("/tool-servers/{name}/approval")
    async def approval(name: str, asking: Asking) -> dict[str, Any]:
        return server_view(
            await client.change_tool_server("PUT", name, "approval", asking.model_dump())
        )

    @router.put("/tool-servers/{name}/tools")
    async def tool(name: str, choice: Choice) -> dict[str, Any]:
        body = choice.model_dump(exclude={"tool"})
        return server_view(await client.choose_tool(name, choice.tool, body))


def list_view(found: ToolServerList) -> dict[str, Any]:
    """The panel: servers that need somebody first."""
    order = ["changed", "not_trusted", "needs_sign_in", "failed"]
    servers = sorted(
        found.servers,
        key=lambda each: order.index(each.state) if each.state in order else len(order),
    )
    return {
        "servers": [server_view(each) for each in servers],
        "problems": [
            {**each.model_dump(), "message": wording.sentence_case(each.message)}
            for each in found.problems
        ],
        "files": list(found.files),
    }


def server_view(server: ToolServer) -> dict[str, Any]:
    """A card of the panel."""
    shown = server.model_dump(
        include={
            *("name", "source", "ours", "also_in", "transport", "command", "cwd", "env_names"),
            *("header_names", "state", "message", "hint", "hash", "enabled", "approval", "title"),
            *("start_seconds", "call_seconds", "inherit_env", "signed_in", "signing_in"),
            *("program", "leads_to", "named", "differences"),
        }
    )
    on = [tool for tool in server.tools if tool.enabled]
    return {
        **shown,
        "light": LIGHTS.get(server.state, "attention"),
        "state_words": STATES[server.state],
        "asks": server.state in ("not_trusted", "changed") and bool(server.command),
        "cost": _cost(len(on), len(server.tools), server.tokens),
        "tools": [
            {
                **tool.model_dump(exclude={"arguments", "read_only", "destructive", "open_world"}),
                "kind": _kind(tool.read_only, tool.destructive),
            }
            for tool in server.tools
        ],
    }


def _cost(on: int, of: int, tokens: int) -> str:
    if not of:
        return ""
    many = f"{on} of {of} tools on" if on < of else f"{of} tool{'' if of == 1 else 's'}"
    return f"{many}, about {tokens:,} tokens in each request"


def _kind(read_only: bool | None, destructive: bool | None) -> str:
    if read_only:
        return "says it only reads"
    return "can overwrite or delete" if destructive else ""
