"""The life of one tool server: started when wanted, shared by all, started anew when it died."""

import asyncio
from collections.abc import Mapping
from typing import Any

from core.errors import (
    ToolError,
    ToolServerFailed,
    ToolServerNotTrusted,
    ToolServerOff,
)
from core.tool_entries import ServerChoices, ServerEntry, hash_with_tools, tool_changes
from core.tool_server import (
    SessionDoor,
    ToolInfo,
    ToolServer,
    ToolServerState,
    ToolSession,
)
from core.tools import OnProgress, Tool, ToolResult

TRUST_HINT = "Look at it under Tools and press Trust if it is what you want to run."


class ServerLife:
    """One server: what is written of it, what was chosen, and its session while it runs."""

    def __init__(self, entry: ServerEntry, choices: ServerChoices, door: SessionDoor) -> None:
        self.entry = entry
        self.choices = choices
        self.listed: tuple[Tool, ...] | None = None
        """What it listed last, trusted or not; None while nobody asked it."""
        self.failure: ToolError | None = None
        self._door = door
        self._session: ToolSession | None = None
        self._opening: asyncio.Future[ToolSession] | None = None
        self._turn = asyncio.Lock()
        self._stale = False

    # -- how it is -------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        return self.entry.fingerprint(self.choices.inherit_env)

    @property
    def changes(self) -> dict[str, str]:
        """Tools that are not what somebody said yes to, by name."""
        if self.listed is None or self.choices.known is None:
            return {}
        return tool_changes(self.choices.known, self.listed)

    @property
    def hash(self) -> str:
        """What a person has to confirm."""
        if self.listed is not None and self.choices.trusted == self.fingerprint and self.changes:
            return hash_with_tools(self.fingerprint, self.listed)
        return self.fingerprint

    @property
    def enabled(self) -> bool:
        chosen = self.choices.enabled
        return not self.entry.off if chosen is None else chosen

    @property
    def state(self) -> ToolServerState:
        if not self.enabled:
            return "off"
        if self.entry.problem:
            return "failed"
        if self.choices.trusted is None:
            return "not_trusted"
        if self.choices.trusted != self.fingerprint or self.changes:
            return "changed"
        if self._opening is not None:
            return "starting"
        if self._session is not None and not self._session.ended:
            return "ready"
        return "failed" if self.failure is not None else "idle"

    def check(self) -> None:
        """Raises what keeps it from being used: ToolServerOff, -NotTrusted or -Failed."""
        name, state = self.entry.name, self.state
        if state == "off":
            raise ToolServerOff(
                f"The tool server {name} is switched off.", hint="Switch it on under Tools."
            )
        if self.entry.problem:
            raise ToolServerFailed(
                f"The tool server {name} cannot be used: {self.entry.problem}",
                hint=f"Correct it in {self.entry.source}.",
            )
        if state == "not_trusted":
            raise ToolServerNotTrusted(
                f"Nobody has said yes to the tool server {name} yet.", hint=TRUST_HINT
            )
        if state == "changed":
            raise ToolServerNotTrusted(self._changed(), hint=TRUST_HINT)

    def _changed(self) -> str:
        name, changes = self.entry.name, self.changes
        if self.choices.trusted != self.fingerprint:
            what = "command" if self.entry.transport == "stdio" else "address"
            return f"The {what} of the tool server {name} is not the one somebody said yes to."
        tools = "; ".join(f"{tool}: {change}" for tool, change in sorted(changes.items()))
        return f"The tools of {name} are not the ones somebody said yes to ({tools})."

    # -- using it --------------------------------------------------------------------------------

    async def tools(self) -> tuple[Tool, ...]:
        """What it lists now, started if need be."""
        self.check()
        await self._running(ask_again=True)
        self.check()
        return self.listed or ()

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        seconds: float,
        on_progress: OnProgress | None,
    ) -> ToolResult:
        """Call it at the server, which is started if need be."""
        self.check()
        session = await self._running()
        self.check()
        try:
            return await session.call(tool, arguments, seconds=seconds, on_progress=on_progress)
        except ToolServerFailed as error:
            self.failure = error
            raise

    async def ready(self) -> None:
        """Bring it up, with its tools known."""
        self.check()
        await self._running()
        self.check()

    async def _running(self, *, ask_again: bool = False) -> ToolSession:
        async with self._turn:
            session = self._session
            if session is None or session.ended:
                await self._drop()
                # Somebody may have said no while we waited for our turn.
                self.check()
                session = self._session = await self._open()
                self.failure, self.listed = None, None
            if ask_again or self._stale or self.listed is None:
                await self._list(session)
            return session

    async def _open(self) -> ToolSession:
        opening = self._opening = asyncio.ensure_future(
            self._door.open(
                self.entry,
                inherit_env=self.choices.inherit_env,
                seconds=self.choices.start_seconds,
                on_tools_changed=self._tools_changed,
            )
        )
        try:
            return await opening
        except ToolError as error:
            self.failure = error
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise ToolServerFailed(
                f"The tool server {self.entry.name} was stopped while it started."
            ) from None
        finally:
            self._opening = None

    async def _list(self, session: ToolSession) -> None:
        self._stale = True
        try:
            self.listed = await session.tools()
        except ToolError as error:
            self.failure = error
            raise
        self._stale = False
        if self.changes:
            # What is no longer what somebody said yes to does not go on running.
            await self._drop()

    def _tools_changed(self) -> None:
        self._stale = True

    async def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()

    async def stop(self) -> None:
        """End it, also while it starts; the next call starts it anew."""
        if self._opening is not None:
            self._opening.cancel()
        async with self._turn:
            self.failure = None
            await self._drop()

    # -- showing it ------------------------------------------------------------------------------

    def view(self, *, ours: bool) -> ToolServer:
        entry, state = self.entry, self.state
        message, hint = self._words(state)
        tools = tuple(self._tool_views())
        session = self._session if state == "ready" else None
        return ToolServer(
            name=entry.name,
            source=entry.source,
            ours=ours,
            also_in=entry.also_in,
            transport=entry.transport,
            command=entry.shown,
            cwd=entry.cwd,
            env_names=tuple(sorted({*entry.env, *self.choices.inherit_env})),
            header_names=tuple(sorted(entry.headers)),
            state=state,
            message=message,
            hint=hint,
            hash=self.hash,
            enabled=self.enabled,
            approval=self.choices.approval,
            tools=tools,
            tokens=sum(tool.tokens for tool in tools if tool.enabled),
            title=session.title if session else "",
            protocol=session.protocol if session else None,
        )

    def _words(self, state: ToolServerState) -> tuple[str, str]:
        try:
            self.check()
        except (ToolServerOff, ToolServerNotTrusted, ToolServerFailed) as error:
            return error.message, error.hint
        if state == "failed" and self.failure is not None:
            return self.failure.message, self.failure.hint
        if self.entry.missing:
            names = ", ".join(f"${{{name}}}" for name in self.entry.missing)
            return f"Nobody set {names}, so it stays as it is.", f"See {self.entry.source}."
        return "", ""

    def _tool_views(self) -> list[ToolInfo]:
        changes = self.changes
        before = {tool.name: tool.description for tool in self.choices.known or ()}
        shown = self.listed if self.listed is not None else self.choices.known or ()
        views = []
        for tool in shown:
            chosen = self.choices.tools.get(tool.name)
            old = before.get(tool.name)
            views.append(
                ToolInfo(
                    name=tool.name,
                    description=tool.description,
                    read_only=tool.read_only,
                    destructive=tool.destructive,
                    open_world=tool.open_world,
                    tokens=tool.tokens,
                    enabled=chosen is None or chosen.enabled,
                    approval=chosen.approval if chosen else None,
                    changed=changes.get(tool.name, ""),
                    before=old if tool.name in changes and old != tool.description else None,
                    arguments=tool.arguments,
                )
            )
        return views
