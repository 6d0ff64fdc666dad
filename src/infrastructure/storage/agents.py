"""People's own agents: `core.agent_book.AgentStore` in SQL, in the database of the chats."""

from anyio import CancelScope, Lock
from pydantic import ValidationError
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from core.agents import Agent
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.schema import agents


class SqlAgents:
    """One row a version. Writers queue for the lock they are given."""

    def __init__(self, engine: AsyncEngine, lock: Lock) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._lock = lock

    async def agents(self) -> list[Agent]:
        """The newest version of each that is not deleted. Raises StorageError."""
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(select(agents).order_by(agents.c.seq))).all()
        newest: dict[str, Agent] = {}
        for row in rows:
            if row.deleted:
                newest.pop(row.id, None)
            elif (agent := _read(row.agent)) is not None:
                newest[row.id] = agent
        return list(newest.values())

    async def agent_versions(self, agent_id: str) -> list[Agent]:
        """Newest first. Raises StorageError."""
        mine = select(agents).where(agents.c.id == agent_id).order_by(agents.c.version.desc())
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(mine)).all()
        return [agent for row in rows if (agent := _read(row.agent)) is not None]

    async def keep_agent(self, agent: Agent) -> None:
        """Add this version. Raises StorageError."""
        row = {
            "id": agent.id,
            "version": agent.version,
            "agent": agent.model_dump(mode="json"),
            "deleted": False,
        }
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    await connection.execute(insert(agents).values(row))

    async def delete_agent(self, agent_id: str) -> None:
        """Hide it: a later version shows it again. Raises StorageError."""
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    gone = update(agents).where(agents.c.id == agent_id).values(deleted=True)
                    await connection.execute(gone)


def _read(agent: object) -> Agent | None:
    """None for what a newer version wrote and this one cannot use."""
    try:
        return Agent.model_validate(agent)
    except ValidationError:
        return None
