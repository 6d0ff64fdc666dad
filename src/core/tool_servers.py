"""Tool servers: which there are, which a person trusts, and the tools of those for whoever calls."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from core.errors import (
    BadParameter,
    Conflict,
    StorageError,
    ToolNotFound,
    ToolServerNotFound,
    ToolServerOff,
)
from core.tool_entries import (
    ChoiceStore,
    Configured,
    FileProblem,
    ServerChoices,
    ServerFiles,
    ToolChoice,
)
from core.tool_life import ServerLife
from core.tool_server import SessionDoor, ToolServer, ToolServerChanged, ToolServerList
from core.tools import ApprovalMode, OnProgress, Tool, ToolResult

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class ToolServers:
    """All configured tool servers. Nothing is started before a tool of it is wanted."""

    def __init__(self, files: ServerFiles, store: ChoiceStore, door: SessionDoor) -> None:
        self._files = files
        self._store = store
        self._door = door
        self._lives: dict[str, ServerLife] = {}
        self._configured = Configured()
        self._choices: dict[str, ServerChoices] = {}
        self._broken: StorageError | None = None
        self._reading = asyncio.Lock()
        self._writing = asyncio.Lock()

    # -- the tool box ----------------------------------------------------------------------------

    async def tools(self, servers: Sequence[str]) -> tuple[Tool, ...]:
        """The switched-on tools of these servers, which are started if need be.

        Raises ToolServerNotFound (with the closest names), ToolServerNotTrusted (never started, or
        changed since), ToolServerOff or ToolServerFailed (with the end of its log).
        """
        await self._read()
        lives = [self._life(name) for name in dict.fromkeys(servers)]
        for life in lives:
            life.check()
        # A task group would wrap what they raise.
        listed = await asyncio.gather(*(life.tools() for life in lives), return_exceptions=True)
        found: list[Tool] = []
        for life, tools in zip(lives, listed, strict=True):
            if isinstance(tools, BaseException):
                raise tools
            await self._know(life)
            found += (_chosen(life, tool) for tool in tools if _is_on(life, tool.name))
        return tuple(found)

    async def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        seconds: float,
        on_progress: OnProgress | None = None,
    ) -> ToolResult:
        """Call it. Cancelling this cancels the call at the server.

        Raises ToolNotFound, ToolTimeout, ToolServerFailed (it died; the next call starts it anew)
        or another ToolError.
        """
        await self._read()
        life = self._life(server)
        await life.ready()
        await self._know(life)
        self._require(life, tool)
        longest = life.choices.call_seconds
        return await life.call(
            tool,
            arguments,
            seconds=seconds if longest is None else min(seconds, longest),
            on_progress=on_progress,
        )

    def _require(self, life: ServerLife, tool: str) -> None:
        name = life.entry.name
        names = [each.name for each in life.listed or ()]
        if tool not in names:
            close = get_close_matches(tool, names, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(close)}?" if close else f"It has {_some(names)}."
            raise ToolNotFound(f"The tool server {name} has no tool {tool!r}.", hint=hint)
        if not _is_on(life, tool):
            raise ToolServerOff(
                f"The tool {tool} of {name} is switched off.", hint="Switch it on under Tools."
            )

    async def _know(self, life: ServerLife) -> None:
        """Keep a first list of tools, and let go of tools that are no more."""
        known, listed = life.choices.known, life.listed
        if listed is None or life.changes or known == listed:
            return
        await self._choose(life, known=listed)

    # -- looking ---------------------------------------------------------------------------------

    async def list(self) -> ToolServerList:
        """All of them, by name; the arguments of tools and the logs are left out."""
        await self._read()
        views = [self._view(life) for _, life in sorted(self._lives.items())]
        problems = self._configured.problems
        if self._broken is not None:
            where = FileProblem(
                file="tool-servers.json", message=self._broken.message, hint=self._broken.hint
            )
            problems = (where, *problems)
        return ToolServerList(
            servers=tuple(_brief(view) for view in views),
            problems=problems,
            files=self._configured.files,
        )

    async def server(self, name: str) -> ToolServer:
        """With its tools' arguments and the end of its log. Raises ToolServerNotFound."""
        await self._read()
        life = self._life(name)
        log = await self._door.log_end(life.entry.name)
        return self._view(life).model_copy(update={"log": log})

    async def refresh(self) -> ToolServerList:
        """Read the files again, and ask the running servers for their tools."""
        await self._read()
        running = [life for life in self._lives.values() if life.state == "ready"]
        await asyncio.gather(*(life.tools() for life in running), return_exceptions=True)
        for life in running:
            await self._know(life)
        return await self.list()

    # -- choosing --------------------------------------------------------------------------------

    async def trust(self, name: str, given: str) -> ToolServer:
        """Say yes to exactly what has this hash. Raises ToolServerChanged where it is not that."""
        await self._read()
        life = self._life(name)
        if life.entry.problem:
            life.check()
        if given != life.hash:
            raise ToolServerChanged(
                f"The tool server {name} is not what was looked at: it changed meanwhile.",
                hint="Look at it again, and say yes to what is shown then.",
            )
        if life.choices.trusted == life.fingerprint:
            known = life.listed if life.changes else life.choices.known
        else:
            known = None
            await life.stop()
            life.listed = None
        await self._choose(life, trusted=life.fingerprint, known=known)
        return self._view(life)

    async def distrust(self, name: str) -> ToolServer:
        """Take the yes back; it is stopped."""
        await self._read()
        life = self._life(name)
        await self._choose(life, trusted=None, known=None)
        await life.stop()
        life.listed = None
        return self._view(life)

    async def enable(self, name: str, enabled: bool) -> ToolServer:
        """Switch it on or off; one that is switched off is stopped."""
        await self._read()
        life = self._life(name)
        await self._choose(life, enabled=enabled)
        if not enabled:
            await life.stop()
        return self._view(life)

    async def approve(self, name: str, approval: ApprovalMode | None) -> ToolServer:
        """Whether its calls are asked about, where the tool and the agent say nothing."""
        await self._read()
        life = self._life(name)
        await self._choose(life, approval=approval)
        return self._view(life)

    async def choose_tool(self, name: str, tool: str, choice: ToolChoice) -> ToolServer:
        """Switch a tool on or off, and say whether its calls are asked about."""
        await self._read()
        life = self._life(name)
        names = {each.name for each in (*(life.listed or ()), *(life.choices.known or ()))}
        if tool not in names:
            raise ToolNotFound(
                f"The tool server {name} has no tool {tool!r}, or was never started.",
                hint="Start it once, so that it lists its tools.",
            )
        tools = {**life.choices.tools, tool: choice}
        if choice == ToolChoice():
            del tools[tool]
        await self._choose(life, tools=tools)
        return self._view(life)

    async def restart(self, name: str) -> ToolServer:
        """End it if it runs, and start it. Raises what `tools` raises."""
        await self._read()
        life = self._life(name)
        life.check()
        await life.stop()
        await life.ready()
        await self._know(life)
        return self._view(life)

    # -- our own file ----------------------------------------------------------------------------

    async def put(self, name: str, entry: Mapping[str, Any]) -> ToolServer:
        """Write it into our own file, new or instead of ours; it still needs somebody's yes."""
        if not NAME.fullmatch(name):
            raise BadParameter(
                "A tool server's name has letters, digits, - and _, and at most 64 of them."
            )
        await self._files.put(name, entry)
        return await self.server(name)

    async def remove(self, name: str) -> None:
        """Take it out of our own file. Raises ToolServerNotFound, or Conflict for one of others."""
        await self._read()
        life = self._life(name)
        if not await self._files.remove(name):
            raise Conflict(
                f"{name} is in {life.entry.source}, which is not LM Desk's to change.",
                hint="Switch it off here, or remove it there.",
            )
        await self._read()

    async def aclose(self) -> None:
        """End every server."""
        await asyncio.gather(*(life.stop() for life in self._lives.values()))
        await self._door.aclose()

    # -- inside ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Make the servers those of the files; a running one that changed is ended."""
        async with self._reading:
            self._configured = await self._files.read()
            try:
                self._choices = await self._store.load()
                self._broken = None
            except StorageError as error:
                # Nobody's yes can be read, so nothing is trusted.
                self._choices, self._broken = {}, error
            new = {entry.name: entry for entry in self._configured.entries}
            gone = [life for name, life in self._lives.items() if name not in new]
            for name, entry in new.items():
                life = self._lives.get(name)
                choices = self._choices.get(name, ServerChoices())
                if life is None:
                    self._lives[name] = ServerLife(entry, choices, self._door)
                    continue
                before = (life.entry, life.choices.inherit_env, life.choices.trusted)
                life.entry, life.choices = entry, choices
                if before != (entry, choices.inherit_env, choices.trusted):
                    await life.stop()
                    life.listed = None
            for life in gone:
                del self._lives[life.entry.name]
                await life.stop()

    def _life(self, name: str) -> ServerLife:
        life = self._lives.get(name)
        if life is None:
            close = get_close_matches(name, self._lives, n=3, cutoff=0.5)
            hint = "Did you mean {}?".format(" or ".join(close)) if close else self._there_are()
            raise ToolServerNotFound(
                f"There is no tool server {name!r}.", hint=hint, candidates=close
            )
        return life

    def _there_are(self) -> str:
        if not self._lives:
            return "None is configured yet: add one to mcp.json in the data folder."
        return f"There are {_some(sorted(self._lives))}."

    async def _choose(self, life: ServerLife, **changes: Any) -> None:
        if self._broken is not None:
            raise self._broken
        async with self._writing:
            choices = life.choices.model_copy(update=changes)
            kept = {**self._choices, life.entry.name: choices}
            await self._store.save(kept)
            self._choices, life.choices = kept, choices

    def _view(self, life: ServerLife) -> ToolServer:
        ours = bool(self._configured.files) and life.entry.source == self._configured.files[0]
        return life.view(ours=ours)


def _is_on(life: ServerLife, tool: str) -> bool:
    chosen = life.choices.tools.get(tool)
    return chosen is None or chosen.enabled


def _chosen(life: ServerLife, tool: Tool) -> Tool:
    chosen = life.choices.tools.get(tool.name)
    approval = chosen.approval if chosen and chosen.approval else life.choices.approval
    return tool.model_copy(update={"approval": approval}) if approval else tool


def _brief(view: ToolServer) -> ToolServer:
    tools = tuple(tool.model_copy(update={"arguments": None}) for tool in view.tools)
    return view.model_copy(update={"tools": tools})


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (" and others" if len(names) > 12 else "")
