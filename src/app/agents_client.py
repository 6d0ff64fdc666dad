"""The client's calls about agents."""

from typing import Any
from urllib.parse import quote

from app.connection import Connection
from core.agent_check import AgentCheck
from core.agents import Agent


class AgentCalls(Connection):
    """What can be asked of the API under `/agents`.

    Drafts go as they were typed: what is wrong in one comes back with the name of its field.
    """

    async def agents(self) -> list[Agent]:
        """The built-in ones, then people's own."""
        return await self._get(list[Agent], "/agents")

    async def agent(self, agent_id: str) -> Agent:
        return await self._get(Agent, _path(agent_id))

    async def create_agent(self, draft: dict[str, Any]) -> Agent:
        """A name that is taken gets a number."""
        return await self._send(Agent, "POST", "/agents", draft)

    async def change_agent(self, agent_id: str, draft: dict[str, Any], *, version: int) -> Agent:
        """A new version, made from the `version` that was seen. Raises AgentChanged."""
        return await self._send(Agent, "PUT", _path(agent_id), {**draft, "version": version})

    async def delete_agent(self, agent_id: str) -> None:
        """Restoring one of its versions brings it back."""
        await self._request("DELETE", _path(agent_id))

    async def copy_agent(self, agent_id: str) -> Agent:
        return await self._send(Agent, "POST", f"{_path(agent_id)}/copy", {})

    async def agent_versions(self, agent_id: str) -> list[Agent]:
        """Newest first."""
        return await self._get(list[Agent], f"{_path(agent_id)}/versions")

    async def restore_agent(self, agent_id: str, version: int) -> Agent:
        """A new version like that old one."""
        return await self._send(Agent, "POST", f"{_path(agent_id)}/restore", {"version": version})

    async def import_agent(self, saved: dict[str, Any]) -> Agent:
        """A new agent from an exported file."""
        return await self._send(Agent, "POST", "/agents/import", saved)

    async def agent_file(self, agent_id: str) -> tuple[str, bytes]:
        """The agent as a file: its Content-Disposition and its bytes."""
        answer = await self._request("GET", f"{_path(agent_id)}/export")
        return answer.headers["content-disposition"], answer.content

    async def check_agent(self, draft: dict[str, Any]) -> AgentCheck:
        """What is amiss about a draft. Nothing is saved."""
        return await self._send(AgentCheck, "POST", "/agents/check", draft)


def _path(agent_id: str) -> str:
    return f"/agents/{quote(agent_id, safe='')}"
