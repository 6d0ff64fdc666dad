"""Tool servers: looking at them, saying yes to them, switching them and their tools."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.services import Desk
from core.errors import BadParameter
from core.tool_entries import (
    MAX_CALL_SECONDS,
    MAX_INHERITED,
    MAX_START_SECONDS,
    START_SECONDS,
    ToolChoice,
)
from core.tool_server import ToolCommandRefused, ToolServer, ToolServerList
from core.tools import ApprovalMode

router = APIRouter(prefix="/tool-servers", tags=["tools"])

Line = Annotated[str, StringConstraints(max_length=8000, pattern=r"^[^\x00\r\n]*$")]


class Trust(BaseModel):
    """What somebody says yes to."""

    hash: str = Field(min_length=64, max_length=64)
    """The server's `hash`, as it was when it was looked at."""


class Asking(BaseModel):
    """Whether calls are asked about."""

    approval: ApprovalMode | None
    """None: as the agent says."""


class Arrangement(BaseModel):
    """What is changed of how a server runs; null goes back to the default."""

    model_config = ConfigDict(extra="forbid")

    start_seconds: float | None = Field(None, gt=0, le=MAX_START_SECONDS)
    """How long it may take to start."""
    call_seconds: float | None = Field(None, gt=0, le=MAX_CALL_SECONDS)
    """No call may take longer; null: as whoever calls says."""
    inherit_env: list[Line] | None = Field(None, max_length=MAX_INHERITED)
    """Names of variables of LM Desk that it also gets. Others than before need a new yes."""


class ServerBody(BaseModel):
    """A server for LM Desk's own mcp.json: a url, or a command where the settings allow that."""

    model_config = ConfigDict(extra="forbid")

    url: Line | None = None
    headers: dict[Line, Line] = Field(default_factory=dict, max_length=50)
    allow_private: bool = False
    """It may lie in a private network, and be reached without https."""
    command: str | None = Field(default=None, max_length=8000)
    args: list[str] = Field(default_factory=list, max_length=500)
    env: dict[str, str] = Field(default_factory=dict, max_length=200)
    cwd: str | None = Field(default=None, max_length=4000)


class NewServer(ServerBody):
    """The same with a name."""

    name: str = Field(min_length=1, max_length=64)


@router.get("")
@router.get("/", include_in_schema=False)
async def list_servers(desk: Desk) -> ToolServerList:
    """All there are in the files, and what is wrong with those. Nothing is started."""
    return await desk.tools.list()


@router.post("", status_code=201)
@router.post("/", include_in_schema=False, status_code=201)
async def add_server(body: NewServer, desk: Desk) -> ToolServer:
    """Write it into LM Desk's own mcp.json. It is not reached before somebody trusts it."""
    return await _put(desk, body.name, body, new=True)


@router.post("/refresh")
async def refresh(desk: Desk) -> ToolServerList:
    """Read the files again, and ask the running servers for their tools."""
    return await desk.tools.refresh()


@router.get("/{name}")
async def read_server(name: str, desk: Desk) -> ToolServer:
    """One server, with its tools' arguments and the end of its log."""
    return await desk.tools.server(name)


@router.put("/{name}")
async def change_server(name: str, body: ServerBody, desk: Desk) -> ToolServer:
    """Write it into LM Desk's own mcp.json, instead of what is there. Trust has to be given anew."""
    return await _put(desk, name, body)


@router.patch("/{name}")
async def arrange_server(name: str, body: Arrangement, desk: Desk) -> ToolServer:
    """Change how it runs: a merge patch of its time limits and of the variables it gets."""
    changes = body.model_dump(exclude_unset=True)
    if not changes:
        raise BadParameter("A change names start_seconds, call_seconds or inherit_env.")
    defaults = {"start_seconds": START_SECONDS, "inherit_env": []}
    return await desk.tools.arrange(
        name, **{k: defaults.get(k) if v is None else v for k, v in changes.items()}
    )


@router.delete("/{name}", status_code=204)
async def remove_server(name: str, desk: Desk) -> None:
    """Take it out of LM Desk's own mcp.json."""
    await desk.tools.remove(name)


@router.post("/{name}/trust")
async def trust(name: str, body: Trust, desk: Desk) -> ToolServer:
    """Say yes to exactly what has this hash: its command or address, and its tools if known."""
    return await desk.tools.trust(name, body.hash)


@router.post("/{name}/distrust")
async def distrust(name: str, desk: Desk) -> ToolServer:
    """Take the yes back; the server is ended."""
    return await desk.tools.distrust(name)


@router.post("/{name}/enable")
async def enable(name: str, desk: Desk) -> ToolServer:
    """Switch it on."""
    return await desk.tools.enable(name, enabled=True)


@router.post("/{name}/disable")
async def disable(name: str, desk: Desk) -> ToolServer:
    """Switch it off, and end it."""
    return await desk.tools.enable(name, enabled=False)


@router.post("/{name}/restart")
async def restart(name: str, desk: Desk) -> ToolServer:
    """End it if it runs, and start it."""
    return await desk.tools.restart(name)


@router.put("/{name}/approval")
async def approval(name: str, body: Asking, desk: Desk) -> ToolServer:
    """Whether its calls are asked about, where a tool says nothing of its own."""
    return await desk.tools.approve(name, body.approval)


@router.put("/{name}/tools/{tool:path}")
async def choose_tool(name: str, tool: str, body: ToolChoice, desk: Desk) -> ToolServer:
    """Switch a tool on or off, and say whether its calls are asked about."""
    return await desk.tools.choose_tool(name, tool, body)


async def _put(desk: Desk, name: str, body: ServerBody, *, new: bool = False) -> ToolServer:
    if (body.url is None) == (body.command is None):
        raise BadParameter("A tool server has either a url or a command.")
    if body.command is not None and not desk.configuration.settings.allow_tool_commands:
        raise ToolCommandRefused(
            "A tool server that is a command cannot be added or changed from here: "
            "whoever may do that may run anything on this machine.",
            hint="Write it into mcp.json by hand, or set allow_tool_commands and start again.",
        )
    entry: dict[str, Any] = body.model_dump(exclude_defaults=True, exclude={"name"})
    return await desk.tools.put(name, entry, new=new)
