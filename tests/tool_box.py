"""A tool box of functions: fits `core.tools.ToolBox`, and notes what is done with it."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from core.errors import ToolServerNotFound, ToolTimeout
from core.tool_entries import tool_hash
from core.tools import OnProgress, Tool, ToolResult

Function = Callable[[dict[str, Any]], Awaitable[ToolResult | str]]


class FakeToolBox:
    """Servers are the names before the dots."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}
        self._functions: dict[str, Function] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.used: list[tuple[str, ...]] = []
        """Servers somebody said to go on using."""
        self.in_use = 0
        self.open = 0
        """Calls that run now."""
        self.most_open = 0
        self.cancelled = 0
        self.error: Exception | None = None
        self.trust = "as somebody said yes to them"
        """Of all servers; another one is a server that became another and was trusted anew."""

    def add(self, name: str, function: Function, **facts: Any) -> None:
        """A tool `server.tool`."""
        server, _, tool = name.partition(".")
        schema = facts.pop("arguments", {"type": "object", "properties": {}})
        made = Tool(server=server, name=tool, arguments=schema, **facts)
        self._tools[name] = made
        self._functions[name] = function

    def says(self, name: str, result: ToolResult | str, **facts: Any) -> None:
        """A tool that always answers with this."""

        async def function(arguments: dict[str, Any]) -> ToolResult | str:
            return result

        self.add(name, function, **facts)

    async def tools(self, servers: Sequence[str]) -> tuple[Tool, ...]:
        known = sorted({tool.server for tool in self._tools.values()})
        for server in servers:
            if server not in known:
                raise ToolServerNotFound(
                    f"There is no tool server {server!r}.",
                    hint=f"Did you mean {known[0]}?",
                    candidates=known,
                )
        return tuple(
            self.trusted(name) for name, tool in self._tools.items() if tool.server in servers
        )

    def trusted(self, name: str) -> Tool:
        """A tool with what a lasting yes to it is bound to."""
        tool = self._tools[name]
        every = sorted(
            tool_hash(each) for each in self._tools.values() if each.server == tool.server
        )
        bonds = {"trust": self.trust, "trust_of_all": f"{self.trust} {every}"}
        return tool.model_copy(update=bonds)

    @contextmanager
    def using(self, servers: Sequence[str]) -> Generator[None]:
        self.used.append(tuple(servers))
        self.in_use += 1
        try:
            yield
        finally:
            self.in_use -= 1

    async def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        seconds: float,
        on_progress: OnProgress | None = None,
    ) -> ToolResult:
        name = f"{server}.{tool}"
        self.calls.append((name, dict(arguments)))
        if self.error is not None:
            raise self.error
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if on_progress is not None:
                on_progress(1, 2, "half")
            async with asyncio.timeout(seconds):
                result = await self._functions[name](dict(arguments))
        except TimeoutError:
            raise ToolTimeout(f"{name} did not answer within {seconds:g} s.") from None
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open -= 1
        return result if isinstance(result, ToolResult) else ToolResult(result)
