"""PydanticLoop: fits `core.runs_ports.AgentLoop`, and costs nothing before its first run."""

import asyncio
import importlib
from types import ModuleType

from core.runs_ports import LoopHost, LoopSpec


class PydanticLoop:
    """Its library takes seconds to import, so that happens in a thread, at the first run."""

    def __init__(self) -> None:
        self._engine: asyncio.Future[ModuleType] | None = None

    async def run(self, spec: LoopSpec, host: LoopHost) -> str:
        """The answer. Raises what the host raised, or LoopFailed."""
        if self._engine is None:
            self._engine = asyncio.ensure_future(
                asyncio.to_thread(importlib.import_module, "infrastructure.loop.engine")
            )
        # Shielded: a stop ends this run's wait, not the import all runs need.
        engine = await asyncio.shield(self._engine)
        answer: str = await engine.run(spec, host)
        return answer
