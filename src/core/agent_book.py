"""AgentBook: all agents there are, the built-in ones and people's own, with every version of those."""

import asyncio
import logging
import re
import time
import unicodedata
from collections.abc import Iterable
from typing import Literal, Protocol

from core.agents import Agent, AgentDraft, no_agent
from core.errors import AgentNotFound, Conflict, StorageError
from core.value import Value

log = logging.getLogger(__name__)

FORMAT: Literal["lmdesk.agent"] = "lmdesk.agent"
COPY = "copy"


class AgentBuiltin(Conflict):
    """A built-in agent cannot be changed or deleted."""

    code = "agent_builtin"


class AgentChanged(Conflict):
    """The agent has a newer version than the one that was to be changed."""

    code = "agent_changed"


class SavedAgent(Value):
    """An agent in a file: all that makes it, and nothing of this machine."""

    format: Literal["lmdesk.agent"] = FORMAT
    version: Literal[1] = 1
    agent: AgentDraft


class AgentStore(Protocol):
    """Where people's agents are kept. Raises StorageError when the disk fails."""

    async def agents(self) -> list[Agent]:
        """The newest version of each that is not deleted, in the order of their birth."""
        ...

    async def agent_versions(self, agent_id: str) -> list[Agent]:
        """Newest first, also of a deleted one; empty if there never was one."""
        ...

    async def keep_agent(self, agent: Agent) -> None:
        """Add this version; a deleted agent is back with it."""
        ...

    async def delete_agent(self, agent_id: str) -> None:
        """Hide it; its versions stay."""
        ...


class AgentBook:
    """Creates, changes and finds agents."""

    def __init__(self, store: AgentStore, builtin: Iterable[Agent]) -> None:
        self._store = store
        self._builtin = {agent.id: agent for agent in builtin}
        self.agents: dict[str, Agent] = dict(self._builtin)
        """All of them by id; this very dict changes with them. The first is the usual one."""
        # Between looking and keeping nobody else may change anything.
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Read people's own. Without a disk there are the built-in ones."""
        try:
            kept = await self._store.agents()
        except StorageError as error:
            log.warning("the agents could not be read: %s", error.message)
            return
        self.agents.update({agent.id: agent for agent in kept if agent.id not in self._builtin})

    def agent(self, agent_id: str) -> Agent:
        """Raises AgentNotFound."""
        try:
            return self.agents[agent_id]
        except KeyError:
            raise no_agent(agent_id, self.agents) from None

    async def create(self, draft: AgentDraft) -> Agent:
        """A new agent; a name that is taken gets a number. Raises StorageError."""
        async with self._turn:
            draft = draft.model_copy(update={"name": self._free_name(draft.name)})
            return await self._keep(Agent(id=await self._free_id(draft.name), **dict(draft)))

    async def copy(self, agent_id: str) -> Agent:
        """A new agent like this one. Raises AgentNotFound or StorageError."""
        draft = self.agent(agent_id).draft
        return await self.create(draft.model_copy(update={"name": f"{draft.name} {COPY}"[:80]}))

    async def change(self, agent_id: str, draft: AgentDraft, *, version: int) -> Agent:
        """A new version of it, made from the version that was seen.

        Raises AgentNotFound, AgentBuiltin, AgentChanged or StorageError.
        """
        async with self._turn:
            agent = self._own(agent_id)
            if agent.version != version:
                raise AgentChanged(
                    f"{agent.name} was changed elsewhere meanwhile (version {agent.version}).",
                    hint="Look at the newer version, then make your change again or save a copy.",
                )
            name = draft.name if draft.name == agent.name else self._free_name(draft.name)
            draft = draft.model_copy(update={"name": name})
            return await self._keep(Agent(id=agent_id, version=version + 1, **dict(draft)))

    async def versions(self, agent_id: str) -> list[Agent]:
        """Newest first; of a built-in one the only one. Raises AgentNotFound or StorageError."""
        if agent_id in self._builtin:
            return [self._builtin[agent_id]]
        versions = await self._store.agent_versions(agent_id)
        return versions or [self.agent(agent_id)]

    async def restore(self, agent_id: str, version: int) -> Agent:
        """A new version like that old one; it also brings a deleted agent back.

        Raises AgentNotFound, AgentBuiltin or StorageError.
        """
        if agent_id in self._builtin:
            raise _builtin(self._builtin[agent_id])
        async with self._turn:
            versions = await self._store.agent_versions(agent_id)
            old = next((each for each in versions if each.version == version), None)
            if old is None:
                raise AgentNotFound(
                    f"There is no version {version} of an agent {agent_id!r}.",
                    hint="GET /api/v1/agents/{id}/versions lists those there are.",
                )
            newest = versions[0].version
            return await self._keep(old.model_copy(update={"version": newest + 1}))

    async def delete(self, agent_id: str) -> None:
        """Take it off the list. Raises AgentNotFound, AgentBuiltin or StorageError."""
        async with self._turn:
            self._own(agent_id)
            await self._store.delete_agent(agent_id)
            del self.agents[agent_id]

    async def take_in(self, saved: SavedAgent) -> Agent:
        """A new agent from a file; no file may say that nobody is asked. Raises StorageError."""
        tools = tuple(
            tool.model_copy(update={"approval": "read-only"}) if tool.approval == "auto" else tool
            for tool in saved.agent.tools
        )
        return await self.create(saved.agent.model_copy(update={"tools": tools}))

    # -- inside ----------------------------------------------------------------------------------

    def _own(self, agent_id: str) -> Agent:
        agent = self.agent(agent_id)
        if agent.builtin:
            raise _builtin(agent)
        return agent

    async def _keep(self, agent: Agent) -> Agent:
        kept = agent.model_copy(update={"updated_at": time.time(), "builtin": False})
        await self._store.keep_agent(kept)
        self.agents[kept.id] = kept
        return kept

    def _free_name(self, name: str) -> str:
        name = " ".join(name.split())
        taken = {agent.name.casefold() for agent in self.agents.values()}
        return _free(name, taken, " ")

    async def _free_id(self, name: str) -> str:
        """Also not that of a deleted one, which may come back."""
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold()
        slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40] or "agent"
        taken = set(self.agents)
        while await self._store.agent_versions(free := _free(slug, taken, "-")):
            taken.add(free)
        return free


def _free(word: str, taken: set[str], between: str) -> str:
    number, free = 1, word
    while free.casefold() in taken:
        number += 1
        free = f"{word[:70]}{between}{number}"
    return free


def _builtin(agent: Agent) -> AgentBuiltin:
    return AgentBuiltin(
        f"{agent.name} is built in and stays as it is.", hint="Make a copy and change that."
    )
