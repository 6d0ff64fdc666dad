"""The life of one tool server: started when wanted, shared by all, started anew when it died."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from core.errors import (
    ToolError,
    ToolServerFailed,
    ToolServerNotTrusted,
    ToolServerOff,
    ToolTimeout,
)
from core.tool_agreed import differences, no_longer
from core.tool_entries import (
    ServerChoices,
    ServerEntry,
    hash_with_place,
    hash_with_tools,
    same_place,
    tool_changes,
)
from core.tool_server import SessionDoor, ToolServer, ToolServerState, ToolSession
from core.tool_sign_in import ToolServerNeedsSignIn
from core.tool_stuck import answers, not_listed, stuck
from core.tool_views import tool_views
from core.tools import OnProgress, Tool, ToolResult

Admit = Callable[["ServerLife"], Awaitable[None]]
"""Makes room for one more running server, or raises why there is none."""
TRUST_HINT = "Look at it under Tools and press Trust if it is what you want to run."


class ServerLife:
    """One server: what is written of it, what was chosen, and its session while it runs."""

    def __init__(
        self,
        entry: ServerEntry,
        choices: ServerChoices,
        door: SessionDoor,
        *,
        admit: Admit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
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
        self._admit = admit
        self._clock = clock
        self._users = 0
        self._calls = 0
        self._stops = 0
        self._looking: set[asyncio.Task[None]] = set()
        self.used_at = clock()
        """When somebody used it last."""
        self.admitted = False
        """It is being started, and so counts as running."""
        self.asleep = ""
        """Why it was ended without being asked; empty once it is started again."""

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
        base = hash_with_place(self.fingerprint, self.entry.place)
        if self.listed is not None and self.choices.trusted == self.fingerprint and self.changes:
            return hash_with_tools(base, self.listed)
        return base

    @property
    def bonds(self) -> dict[str, str]:
        """What a lasting yes to calls is bound to: the yes to the server, without and with its tools."""
        trusted = self.choices.trusted
        if trusted is None:
            return {}
        trust = hash_with_place(trusted, self.choices.place)
        return {"trust": trust, "trust_of_all": hash_with_tools(trust, self.listed or ())}

    @property
    def moved(self) -> bool:
        """Its command is another program than the one somebody said yes to."""
        return not same_place(self.choices.place, self.entry.place)

    @property
    def trusted(self) -> bool:
        """Somebody said yes to it as it is now."""
        return self.choices.trusted == self.fingerprint and not self.moved and not self.changes

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
        if not self.trusted:
            return "changed"
        if self._opening is not None:
            return "starting"
        if self._session is not None and not self._session.ended:
            return "ready"
        if isinstance(self.failure, ToolServerNeedsSignIn):
            return "needs_sign_in"
        if self.failure is not None:
            return "failed"
        return "asleep" if self.asleep else "idle"

    @property
    def running(self) -> bool:
        """It is up, or being started."""
        return self.admitted or (self._session is not None and not self._session.ended)

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
            words = no_longer(self.entry, self.choices, self.changes)
            raise ToolServerNotTrusted(words, hint=TRUST_HINT)

    # -- using it --------------------------------------------------------------------------------

    @contextmanager
    def in_use(self) -> Generator[None]:
        """Meanwhile it is not ended for being idle, or to make room."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self.used_at = self._clock()

    async def tools(self) -> tuple[Tool, ...]:
        """What it lists now, started if need be."""
        self.check()
        with self.in_use():
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
        with self.in_use():
            session = await self._running()
            self.check()
            self._calls += 1
            try:
                return await session.call(tool, arguments, seconds=seconds, on_progress=on_progress)
            except ToolServerFailed as error:
                if self._session is session:
                    self.failure = error
                raise
            except (ToolTimeout, asyncio.CancelledError):
                self._look_after(session)
                raise
            finally:
                self._calls -= 1

    def _look_after(self, session: ToolSession) -> None:
        """A program that is stuck in a call that was given up would keep everybody waiting."""
        if self.entry.transport == "stdio":
            looking = asyncio.create_task(self._end_if_stuck(session))
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)

    async def _end_if_stuck(self, session: ToolSession) -> None:
        if session.ended or await answers(session):
            return
        async with self._turn:
            if self._session is session and not self._calls:
                self.failure = stuck(self.entry.name)
                await self._drop()

    async def ready(self) -> None:
        """Bring it up, with its tools known."""
        self.check()
        with self.in_use():
            await self._running()
            self.check()

    async def _running(self, *, ask_again: bool = False) -> ToolSession:
        if self._looking:
            await asyncio.wait(self._looking)
        while True:
            async with self._turn:
                if not self._stops:
                    return await self._up(ask_again=ask_again)
            # Whoever stops it waits behind us; nothing is begun that they would wait for.
            await asyncio.sleep(0)

    async def _up(self, *, ask_again: bool) -> ToolSession:
        session = self._session
        if session is None or session.ended:
            await self._drop()
            # Somebody may have said no while we waited for our turn.
            self.check()
            session = await self._admitted()
            self.failure, self.listed, self.asleep = None, None, ""
        if ask_again or self._stale or self.listed is None:
            await self._list(session)
        return session

    async def _admitted(self) -> ToolSession:
        if self._admit is not None:
            await self._admit(self)
        try:
            if self._stops:
                raise self._stopped()
            session = self._session = await self._open()
        finally:
            self.admitted = False
        if self._stops:
            raise self._stopped()
        return session

    def _stopped(self) -> ToolServerFailed:
        return ToolServerFailed(f"The tool server {self.entry.name} was stopped while it started.")

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
            raise self._stopped() from None
        finally:
            self._opening = None

    async def _list(self, session: ToolSession) -> None:
        self._stale = True
        try:
            self.listed = await session.tools()
        except ToolTimeout as error:
            self.failure = not_listed(error, busy=self._calls > 0)
            if not self._calls:
                await self._drop()
            raise self.failure from error
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

    async def stop(self, *, forget: bool = False) -> None:
        """End it, also while it starts or lists its tools; the next call starts it anew.

        With `forget` its tools are no longer known.
        """
        for looking in self._looking:
            looking.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self._session is not None:
            self._session.end()
        self._stops += 1
        try:
            async with self._turn:
                self.failure, self.asleep = None, ""
                await self._drop()
                if forget:
                    self.listed = None
        finally:
            self._stops -= 1

    async def fall_asleep(self, why: str) -> bool:
        """End it where nobody uses it; whether that was so. The next call starts it anew."""
        # Whoever has its turn may be waiting for the room this would make.
        if self._users or self._turn.locked():
            return False
        async with self._turn:
            self.asleep = why
            await self._drop()
        return True

    # -- showing it ------------------------------------------------------------------------------

    def view(self, *, ours: bool, signed_in: bool) -> ToolServer:
        """As a person sees it."""
        entry, state = self.entry, self.state
        message, hint = self._words(state)
        tools = tool_views(self.choices, self.listed, self.changes)
        session = self._session if state == "ready" else None
        return ToolServer(
            name=entry.name,
            named=entry.named,
            source=entry.source,
            ours=ours,
            also_in=entry.also_in,
            transport=entry.transport,
            command=entry.shown,
            program=entry.program,
            leads_to=entry.leads_to,
            cwd=entry.cwd,
            env_names=tuple(sorted({*entry.env, *self.choices.inherit_env})),
            header_names=tuple(sorted(entry.headers)),
            signed_in=signed_in,
            state=state,
            message=message,
            hint=hint,
            hash=self.hash,
            trusted=self.trusted,
            differences=differences(entry, self.choices) if state == "changed" else (),
            enabled=self.enabled,
            approval=self.choices.approval,
            start_seconds=self.choices.start_seconds,
            call_seconds=self.choices.call_seconds,
            inherit_env=self.choices.inherit_env,
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
        if state in ("failed", "needs_sign_in") and self.failure is not None:
            return self.failure.message, self.failure.hint
        if state == "asleep":
            return self.asleep, "It starts by itself when it is wanted."
        if self.entry.missing:
            names = ", ".join(f"${{{name}}}" for name in self.entry.missing)
            return f"Nobody set {names}, so it stays as it is.", f"See {self.entry.source}."
        return "", ""
