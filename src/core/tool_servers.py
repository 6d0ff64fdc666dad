"""Tool servers: which there are, which a person trusts, and the tools of those for whoever calls."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from typing import Any

from core.errors import BadParameter, Conflict, DeskError, ToolNotFound, ToolServerOff
from core.tool_agreed import agreed_to
from core.tool_entries import ChoiceStore, ServerFiles, ToolChoice, variable_names
from core.tool_life import ServerLife
from core.tool_room import ToolRoom, ToolRules
from core.tool_server import SessionDoor, ToolServer, ToolServerChanged, ToolServerList
from core.tool_shelf import ToolShelf, some_of
from core.tool_sign_in import SignInAnswer, SignInGone, SignInPage, SignIns, challenge_of
from core.tools import ApprovalMode, OnProgress, Tool, ToolResult

LOOK_SECONDS = 5.0
# Whoever signed in waits for the page that says so.
FIRST_START_SECONDS = 20.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class ToolServers:
    """All configured tool servers. Nothing is started before a tool of it is wanted."""

    def __init__(
        self,
        files: ServerFiles,
        store: ChoiceStore,
        door: SessionDoor,
        rules: ToolRules | None = None,
        *,
        signing: SignIns | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door = door
        self._signing = signing
        self._room = ToolRoom(lambda: self._shelf.lives, rules or ToolRules(), clock=clock)
        self._shelf = ToolShelf(
            files,
            store,
            signing,
            lambda entry, choices: ServerLife(
                entry, choices, door, admit=self._room.admit, clock=clock
            ),
        )
        self.on_lapse: Callable[[str], Awaitable[None]] | None = None
        """Hears of a server that is no longer what a person's lasting yes to its calls was about."""

    # -- the tool box ----------------------------------------------------------------------------

    async def tools(self, servers: Sequence[str]) -> tuple[Tool, ...]:
        """The switched-on tools of these servers, which are started if need be.

        Raises ToolServerNotFound (with the closest names), ToolServerNotTrusted (never started, or
        changed since), ToolServerOff or ToolServerFailed (with the end of its log).
        """
        await self._shelf.read()
        lives = [self._shelf.life(name) for name in dict.fromkeys(servers)]
        for life in lives:
            life.check()
        # A task group would wrap what they raise.
        listed = await asyncio.gather(*(life.tools() for life in lives), return_exceptions=True)
        found: list[Tool] = []
        for life, tools in zip(lives, listed, strict=True):
            if isinstance(tools, BaseException):
                raise tools
            await self._know(life)
            bonds = life.bonds
            found += (_chosen(life, tool, bonds) for tool in tools if _is_on(life, tool.name))
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
        await self._shelf.read()
        life = self._shelf.life(server)
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

    @contextmanager
    def using(self, servers: Sequence[str]) -> Generator[None]:
        """Whoever goes on using these keeps them from being ended for idleness meanwhile."""
        with ExitStack() as stack:
            for life in self._shelf.lives:
                if life.entry.name in servers:
                    stack.enter_context(life.in_use())
            yield

    def _require(self, life: ServerLife, tool: str) -> None:
        name = life.entry.name
        names = [each.name for each in life.listed or ()]
        if tool not in names:
            close = get_close_matches(tool, names, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(close)}?" if close else f"It has {some_of(names)}."
            raise ToolNotFound(f"The tool server {name} has no tool {tool!r}.", hint=hint)
        if not _is_on(life, tool):
            raise ToolServerOff(
                f"The tool {tool} of {name} is switched off.", hint="Switch it on under Tools."
            )

    async def _know(self, life: ServerLife) -> None:
        """Keep a first list of tools, and let go of tools that are no more."""
        if life.entry.place and not life.choices.place:
            await self._shelf.choose(life, place=life.entry.place)
        if life.choices.agreed is None and life.trusted:
            agreed = agreed_to(life.entry, life.choices.inherit_env)
            await self._shelf.choose(life, agreed=agreed)
        known, listed = life.choices.known, life.listed
        if listed is None or life.changes or known == listed:
            return
        await self._shelf.choose(life, known=listed)

    # -- without being asked ---------------------------------------------------------------------

    def follow(self, rules: ToolRules) -> None:
        """From now on these."""
        self._room.rules = rules

    async def run(self) -> None:
        """End what nobody uses, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.end_idle()

    async def end_idle(self) -> None:
        """End now what nobody used for longer than the rules say."""
        await self._room.look()

    # -- looking ---------------------------------------------------------------------------------

    async def list(self) -> ToolServerList:
        """All of them, by name; the arguments of tools and the logs are left out."""
        await self._shelf.read()
        views = [
            self._shelf.view(life)
            for life in sorted(self._shelf.lives, key=lambda each: each.entry.name)
        ]
        return ToolServerList(
            servers=tuple(_brief(view) for view in views),
            problems=self._shelf.problems,
            files=self._shelf.files,
        )

    async def server(self, name: str) -> ToolServer:
        """With its tools' arguments and the end of its log. Raises ToolServerNotFound."""
        await self._shelf.read()
        life = self._shelf.life(name)
        log = await self._door.log_end(life.entry.name)
        return self._shelf.view(life).model_copy(update={"log": log})

    async def refresh(self) -> ToolServerList:
        """Read the files again, and ask the running servers for their tools."""
        await self._shelf.read()
        running = [life for life in self._shelf.lives if life.state == "ready"]
        await asyncio.gather(*(life.tools() for life in running), return_exceptions=True)
        for life in running:
            await self._know(life)
        return await self.list()

    # -- choosing --------------------------------------------------------------------------------

    async def trust(self, name: str, given: str) -> ToolServer:
        """Say yes to exactly what has this hash. Raises ToolServerChanged where it is not that."""
        await self._shelf.read()
        life = self._shelf.life(name)
        if life.entry.problem:
            life.check()
        if given != life.hash:
            raise ToolServerChanged(
                f"The tool server {name} is not what was looked at: it changed meanwhile.",
                hint="Look at it again, and say yes to what is shown then.",
            )
        same = life.choices.trusted == life.fingerprint and not life.moved
        another = not same or bool(life.changes)
        if another:
            await self._lapse(name)
        if same:
            known = life.listed if life.changes else life.choices.known
        else:
            known = None
            await life.stop(forget=True)
        await self._shelf.choose(
            life,
            trusted=life.fingerprint,
            place=life.entry.place,
            agreed=agreed_to(life.entry, life.choices.inherit_env),
            known=known,
            **(life.choices.asking() if another and life.choices.trusted else {}),
        )
        return self._shelf.view(life)

    async def distrust(self, name: str) -> ToolServer:
        """Take the yes back; it is stopped."""
        await self._shelf.read()
        life = self._shelf.life(name)
        await self._shelf.choose(
            life, trusted=None, place=(), agreed=None, known=None, **life.choices.asking()
        )
        await self._lapse(name)
        await life.stop(forget=True)
        await self._shelf.forget_keys(name)
        return self._shelf.view(life)

    async def enable(self, name: str, enabled: bool) -> ToolServer:
        """Switch it on or off; one that is switched off is stopped."""
        await self._shelf.read()
        life = self._shelf.life(name)
        await self._shelf.choose(life, enabled=enabled)
        if not enabled:
            await life.stop()
        return self._shelf.view(life)

    async def approve(self, name: str, approval: ApprovalMode | None) -> ToolServer:
        """Whether its calls are asked about, where the tool and the agent say nothing."""
        await self._shelf.read()
        life = self._shelf.life(name)
        await self._shelf.choose(life, approval=approval)
        return self._shelf.view(life)

    async def arrange(self, name: str, **changes: Any) -> ToolServer:
        """Change `start_seconds`, `call_seconds` or `inherit_env`; other variables need a new yes.

        Raises BadParameter.
        """
        await self._shelf.read()
        life = self._shelf.life(name)
        inherited = variable_names(changes.get("inherit_env", ()))
        if "inherit_env" in changes:
            changes["inherit_env"] = inherited
        if inherited and life.entry.transport == "http":
            raise BadParameter(f"{name} is reached by its address, so it gets no variables.")
        other = "inherit_env" in changes and inherited != life.choices.inherit_env
        await self._shelf.choose(life, **changes)
        if other:
            await life.stop(forget=True)
        return self._shelf.view(life)

    async def choose_tool(self, name: str, tool: str, choice: ToolChoice) -> ToolServer:
        """Switch a tool on or off, and say whether its calls are asked about."""
        await self._shelf.read()
        life = self._shelf.life(name)
        names = {each.name for each in (*(life.listed or ()), *(life.choices.known or ()))}
        if tool not in names:
            raise ToolNotFound(
                f"The tool server {name} has no tool {tool!r}, or was never started.",
                hint="Start it once, so that it lists its tools.",
            )
        tools = {**life.choices.tools, tool: choice}
        if choice == ToolChoice():
            del tools[tool]
        await self._shelf.choose(life, tools=tools)
        return self._shelf.view(life)

    async def restart(self, name: str) -> ToolServer:
        """End it if it runs, and start it. Raises what `tools` raises."""
        await self._shelf.read()
        life = self._shelf.life(name)
        life.check()
        await life.stop()
        await life.ready()
        await self._know(life)
        return self._shelf.view(life)

    # -- signing in ------------------------------------------------------------------------------

    async def sign_in(self, name: str, return_to: str) -> SignInPage:
        """Where a person signs in to it. Raises BadParameter, SignInFailed, or as `tools` does.

        `return_to` is the address of ours that their browser comes back to.
        """
        await self._shelf.read()
        life = self._shelf.life(name)
        life.check()
        entry = life.entry
        if self._signing is None or entry.transport != "http":
            raise BadParameter(f"{name} is a command, so there is nothing to sign in to.")
        if any(header.lower() == "authorization" for header in entry.headers):
            raise BadParameter(
                f"{name} has a key in its headers already.",
                hint=f"Take Authorization out of it in {entry.source} to sign in instead.",
            )
        return await self._signing.begin(entry, return_to, challenge_of(life.failure))

    async def finish_sign_in(self, answer: SignInAnswer) -> ToolServer:
        """Take what their browser brought back; the server as it is after its start.

        Raises SignInGone, SignInFailed, or ToolServerNotFound where it was removed meanwhile.
        """
        if self._signing is None:
            raise SignInGone("No sign-in was begun here.")
        name = await self._signing.finish(answer)
        with suppress(DeskError, TimeoutError):
            # Its state says what became of it.
            async with asyncio.timeout(FIRST_START_SECONDS):
                await self.restart(name)
        await self._shelf.read()
        return self._shelf.view(self._shelf.life(name))

    async def sign_out(self, name: str) -> ToolServer:
        """Throw the keys away that signing in gave, and end it."""
        await self._shelf.read()
        life = self._shelf.life(name)
        # In this order: a call that waits would start it again with what is still there.
        await self._shelf.forget_keys(name)
        await life.stop()
        return self._shelf.view(life)

    # -- our own file ----------------------------------------------------------------------------

    async def put(self, name: str, entry: Mapping[str, Any], *, new: bool = False) -> ToolServer:
        """Write it into our own file, instead of ours unless it is `new`; it needs somebody's yes."""
        if not NAME.fullmatch(name):
            raise BadParameter(
                "A tool server's name has letters, digits, - and _, and at most 64 of them."
            )
        await self._shelf.put(name, entry, new=new)
        return await self.server(name)

    async def remove(self, name: str) -> None:
        """Take it out of our own file. Raises ToolServerNotFound, or Conflict for one of others."""
        await self._shelf.read()
        life = self._shelf.life(name)
        if not await self._shelf.remove(name):
            raise Conflict(
                f"{name} is in {life.entry.source}, which is not LM Desk's to change.",
                hint="Switch it off here, or remove it there.",
            )
        await self._shelf.choose(life, **life.choices.asking())
        await self._lapse(name)
        await self._shelf.forget_keys(name)
        await self._shelf.read()

    async def _lapse(self, name: str) -> None:
        if self.on_lapse is not None:
            await self.on_lapse(name)

    async def aclose(self) -> None:
        """End every server."""
        if self._signing is not None:
            await self._signing.aclose()
        await self._shelf.aclose()
        await self._door.aclose()


def _is_on(life: ServerLife, tool: str) -> bool:
    chosen = life.choices.tools.get(tool)
    return chosen is None or chosen.enabled


def _chosen(life: ServerLife, tool: Tool, bonds: Mapping[str, str]) -> Tool:
    chosen = life.choices.tools.get(tool.name)
    approval = chosen.approval if chosen and chosen.approval else life.choices.approval
    return tool.model_copy(update={**bonds, "approval": approval or tool.approval})


def _brief(view: ToolServer) -> ToolServer:
    tools = tuple(tool.model_copy(update={"arguments": None}) for tool in view.tools)
    return view.model_copy(update={"tools": tools})
