"""PydanticLoop: fits `core.runs_ports.AgentLoop`, and costs nothing before its first run."""

import asyncio
import importlib
from types import ModuleType

from core.runs_ports import LoopHost, LoopSpec


class PydanticLoop:
    """Its library takes seconds to import, so that happens in a thread, at the first run."""

    def __init__(self) -> None:
        self._engine: ModuleType | None = None

    async def run(self, spec: LoopSpec, host: LoopHost) -> str:
        """The answer. Raises what the host raised, or LoopFailed."""
        if self._engine is None:
            # A stop ends this run's wait at once; the thread goes on, and runs that come meanwhile
            # wait for the same import in threads of their own. Nothing of it is kept that belongs
            # to this event loop, or to a run that ends before it is done.
            self._engine = await asyncio.to_thread(
                importlib.import_module, "infrastructure.loop.engine"
            )
        answer: str = await self._engine.run(spec, host)
        return answer
