"""Agents: what there is, making and changing people's own, and every version of them."""

from typing import Annotated

from fastapi import APIRouter, Response, status
from pydantic import Field

from api.services import Desk
from core.agent_book import SavedAgent
from core.agent_check import AgentCheck
from core.agents import Agent, AgentDraft
from core.value import Value

router = APIRouter(prefix="/agents", tags=["agents"])


class AgentChange(AgentDraft):
    """The agent as it shall be."""

    version: Annotated[int, Field(ge=1)]
    """The version that was seen; a newer one is not overwritten."""


class Restored(Value):
    """Which old version shall be the newest again."""

    version: Annotated[int, Field(ge=1)]


@router.get("")
@router.get("/", include_in_schema=False)
async def list_agents(desk: Desk) -> list[Agent]:
    """All agents: the built-in ones, then people's own."""
    return list(desk.agents.values())


@router.post("", status_code=status.HTTP_201_CREATED)
@router.post("/", status_code=status.HTTP_201_CREATED, include_in_schema=False)
async def create_agent(draft: AgentDraft, desk: Desk) -> Agent:
    """A new agent; a name that is taken gets a number."""
    return await desk.agent_book.create(draft)


@router.post("/check")
async def check_agent(draft: AgentDraft, desk: Desk) -> AgentCheck:
    """What is amiss about a draft, and what its instructions cost."""
    return await desk.agent_checker.check(draft)


@router.post("/import", status_code=status.HTTP_201_CREATED)
async def import_agent(saved: SavedAgent, desk: Desk) -> Agent:
    """A new agent from a file of `export`."""
    return await desk.agent_book.take_in(saved)


@router.get("/{agent_id}")
async def read_agent(agent_id: str, desk: Desk) -> Agent:
    """One agent."""
    return desk.agent_book.agent(agent_id)


@router.put("/{agent_id}")
async def change_agent(agent_id: str, body: AgentChange, desk: Desk) -> Agent:
    """A new version. Refused for built-in ones, and when somebody else changed it meanwhile."""
    draft = AgentDraft(**body.model_dump(exclude={"version"}))
    return await desk.agent_book.change(agent_id, draft, version=body.version)


@router.delete("/{agent_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_agent(agent_id: str, desk: Desk) -> Response:
    """Take it off the list; restoring one of its versions brings it back."""
    await desk.agent_book.delete(agent_id)
    return Response(status_code=204)


@router.post("/{agent_id}/copy", status_code=status.HTTP_201_CREATED)
async def copy_agent(agent_id: str, desk: Desk) -> Agent:
    """A new agent like this one, which may be a built-in one."""
    return await desk.agent_book.copy(agent_id)


@router.get("/{agent_id}/versions")
async def agent_versions(agent_id: str, desk: Desk) -> list[Agent]:
    """Newest first."""
    return await desk.agent_book.versions(agent_id)


@router.post("/{agent_id}/restore")
async def restore_agent(agent_id: str, body: Restored, desk: Desk) -> Agent:
    """A new version like an old one."""
    return await desk.agent_book.restore(agent_id, body.version)


@router.get("/{agent_id}/export")
async def export_agent(agent_id: str, desk: Desk, response: Response) -> SavedAgent:
    """The agent as one file, without anything of this machine."""
    agent = desk.agent_book.agent(agent_id)
    response.headers["content-disposition"] = f'attachment; filename="{agent.id}.agent.json"'
    return SavedAgent(agent=agent.draft)
