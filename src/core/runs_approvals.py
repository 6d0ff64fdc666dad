"""Approvals: which calls a person is asked about, and the wait for what the person says."""

import asyncio
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from core.jobs import Job
from core.runs import AllowedTool, Approval, Decision, RememberFor
from core.runs_errors import ApprovalClosed
from core.runs_ports import RunStore
from core.runs_record import RunRecord
from core.tool_entries import tool_hash
from core.tools import ApprovalMode, Tool

# Then it counts as denied.
WAIT_SECONDS = 300.0
# Begins the fingerprint of a lasting yes. Those of older versions did not know the server's trust.
BOUND = "trust:"
_ADDRESS = re.compile(r"(?!file:)\b[a-z][a-z0-9+.-]*://|\bwww\.|\bmailto:", re.IGNORECASE)


class Verdict(NamedTuple):
    """Whether a call may run, and with what."""

    allowed: bool
    by: str
    """`mode`, `remembered`, `person` or `timeout`."""
    message: str = ""
    arguments: Mapping[str, Any] | None = None
    """Set where the person changed them."""


class Allowed:
    """What people let run for good. One for all runs."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._known: dict[tuple[str, str | None], AllowedTool] = {}
        self._lapses: Counter[str] = Counter()

    async def open(self) -> None:
        """Read what is kept, without what older versions bound to a name alone. Raises StorageError."""
        kept = await self._store.allowed_tools()
        for each in kept:
            if not each.fingerprint.startswith(BOUND):
                await self._store.forget_allowed(each.server, each.tool)
        self._known = {
            (each.server, each.tool): each for each in kept if each.fingerprint.startswith(BOUND)
        }

    def listed(self) -> list[AllowedTool]:
        """The newest first."""
        return sorted(self._known.values(), key=lambda each: -each.at)

    def covers(self, tool: Tool) -> bool:
        """Whether a person let this very tool run for good, of the server as it is trusted now."""
        return any(
            one is not None and tool.trust and one.fingerprint == fingerprint(tool, whole_server)
            for one, whole_server in (
                (self._known.get((tool.server, None)), True),
                (self._known.get((tool.server, tool.name)), False),
            )
        )

    def lapses(self, server: str) -> int:
        """How often, since LM Desk runs, it became another one or was trusted no more."""
        return self._lapses[server]

    async def add(self, tool: Tool, *, whole_server: bool) -> None:
        """From now on it runs. Raises StorageError."""
        allowed = AllowedTool(
            server=tool.server,
            tool=None if whole_server else tool.name,
            fingerprint=fingerprint(tool, whole_server),
            at=time.time(),
        )
        self._known[allowed.server, allowed.tool] = allowed
        await self._store.allow_tool(allowed)

    async def forget(self, server: str, tool: str | None) -> None:
        """From now on it is asked about again. Raises StorageError."""
        self._known.pop((server, tool), None)
        await self._store.forget_allowed(server, tool)

    async def forget_server(self, server: str) -> None:
        """Nothing of it runs unasked any more, in runs under way neither. Raises StorageError."""
        self._lapses[server] += 1
        for name, tool in [*self._known]:
            if name == server:
                await self.forget(name, tool)


class Approvals:
    """Those of one run."""

    def __init__(
        self,
        job: Job,
        record: RunRecord,
        allowed: Allowed,
        mode_of: Callable[[Tool], ApprovalMode],
        *,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._job = job
        self._record = record
        self._allowed = allowed
        self._mode_of = mode_of
        self._wait_seconds = wait_seconds
        self._waiting: dict[str, asyncio.Future[Decision]] = {}
        self._in_this_run: dict[tuple[str, str | None], int] = {}
        """Tools, and servers for all of theirs, with their lapses when the person said so."""
        self._reached_out: str | None = None
        """A tool that says it reaches beyond this machine, and has answered in this run."""
        self._may_have: str | None = None
        """The same of one that says nothing about that."""
        self._read_here: dict[tuple[str, bool | None], str] = {}
        """Tools whose results are not from outside, by server and what they say about that."""

    def saw_result(self, tool: Tool, arguments: Mapping[str, Any], *, failed: bool = False) -> None:
        """What a tool brings in from outside may hold orders; from now on writes are asked about,
        and, once something else was read too, what could carry that out."""
        if tool.open_world is True:
            self._reached_out = tool.full_name
        elif tool.open_world is None:
            self._may_have = tool.full_name
        if not failed and not _reaches_out(tool, arguments):
            self._read_here[tool.server, tool.open_world] = tool.full_name

    async def verdict(self, call_id: str, tool: Tool, arguments: Mapping[str, Any]) -> Verdict:
        """Whether it may run; waits for the person where one must be asked."""
        why = self._why_asked(tool, arguments)
        if why is None:
            mode = self._mode_of(tool)
            by_mode = mode == "auto" or (mode == "read-only" and tool.read_only is True)
            return Verdict(True, "mode" if by_mode else "remembered")
        return await self._ask(call_id, tool, arguments, why)

    def decide(self, call_id: str, decision: Decision) -> None:
        """Raises ApprovalClosed, also when the decision is about other arguments."""
        waiting = self._waiting.get(call_id)
        approval = self._record.approvals.get(call_id)
        if waiting is None or waiting.done() or approval is None:
            raise ApprovalClosed(
                f"No call {call_id!r} waits for a decision in this run.",
                hint="It may be decided already, or have waited too long.",
            )
        seen = decision.arguments_hash
        if seen is not None and seen != approval.arguments_hash:
            raise ApprovalClosed(
                "The decision is about other arguments than those of the call.",
                hint="Read the run again and decide about what it shows.",
            )
        waiting.set_result(decision)
        del self._record.approvals[call_id]

    # -- inside ----------------------------------------------------------------------------------

    def _why_asked(self, tool: Tool, arguments: Mapping[str, Any]) -> str | None:
        """None when it may run unasked."""
        mode = self._mode_of(tool)
        if (carried := self._could_carry(tool, arguments)) is not None:
            return carried
        if tool.read_only is True and mode != "ask":
            return None
        if tool.read_only is not True:
            if self._reached_out is not None:
                return f"{self._reached_out} brought in text from outside, and this can write."
            # Nobody who chose `auto` wants to be asked about every server that says nothing of itself.
            if self._may_have is not None and mode != "auto":
                return (
                    f"{self._may_have} may have brought in text from outside, and this can write."
                )
        if mode == "auto" or self._remembered(tool):
            return None
        # Whoever wants to be asked about each call wants that whatever was said in other runs.
        if mode != "ask" and self._allowed.covers(tool):
            return None
        if mode == "ask":
            return "Every call is asked about."
        if tool.read_only is None:
            return "The server does not say that it only reads."
        return "It can change things."

    def _could_carry(self, tool: Tool, arguments: Mapping[str, Any]) -> str | None:
        """Orders came in, something of the person's was read, and this call reaches outside."""
        sure = self._mode_of(tool) == "auto"  # asks about nothing that servers do not say
        outside = self._reached_out or (None if sure else self._may_have)
        if outside is None or not _reaches_out(tool, arguments):
            return None
        if sure and tool.open_world is None:
            return None
        # Of one server that says nothing of itself, nobody can tell its reading from its reaching out.
        alike = (tool.server, None) if tool.open_world is None else None
        read = [name for key, name in self._read_here.items() if key != alike]
        if not read:
            return None
        return (
            f"It could carry what {read[0]} gave this run to the outside, after {outside} "
            f"{'brought' if self._reached_out else 'may have brought'} in text from there."
        )

    async def _ask(
        self, call_id: str, tool: Tool, arguments: Mapping[str, Any], why: str
    ) -> Verdict:
        now = time.time()
        approval = Approval(
            call_id=call_id,
            server=tool.server,
            tool=tool.name,
            arguments=dict(arguments),
            arguments_hash=arguments_hash(tool, arguments),
            why=why,
            read_only=tool.read_only,
            destructive=tool.destructive,
            open_world=tool.open_world,
            requested_at=now,
            expires_at=now + self._wait_seconds,
        )
        waiting: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = waiting
        self._record.approvals[call_id] = approval
        self._record.change_call(call_id, state="waiting")
        self._job.emit("approval.requested", **approval.model_dump(mode="json"))
        decision: Decision | None = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_seconds):
                    decision = await waiting
        finally:
            self._waiting.pop(call_id, None)
            self._record.approvals.pop(call_id, None)
        return await self._resolved(call_id, tool, decision)

    async def _resolved(self, call_id: str, tool: Tool, decision: Decision | None) -> Verdict:
        if decision is None:
            verdict = Verdict(
                False, "timeout", f"Nobody answered within {_long(self._wait_seconds)}."
            )
        elif decision.decision == "approve":
            verdict = Verdict(True, "person", arguments=decision.arguments)
            await self._remember(tool, decision.remember)
        else:
            verdict = Verdict(False, "person", decision.message or "")
        self._job.emit(
            "approval.resolved",
            call_id=call_id,
            decision="approve" if verdict.allowed else "deny",
            by=verdict.by,
            message=verdict.message,
            arguments=None if verdict.arguments is None else dict(verdict.arguments),
            remember=decision.remember if decision else None,
        )
        return verdict

    def _remembered(self, tool: Tool) -> bool:
        lapses = self._allowed.lapses(tool.server)
        return lapses in (
            self._in_this_run.get((tool.server, tool.name)),
            self._in_this_run.get((tool.server, None)),
        )

    async def _remember(self, tool: Tool, scope: RememberFor | None) -> None:
        if scope is None:
            return
        name = None if scope == "server" else tool.name
        self._in_this_run[tool.server, name] = self._allowed.lapses(tool.server)
        if scope != "run":
            await self._allowed.add(tool, whole_server=scope == "server")


def _reaches_out(tool: Tool, arguments: Mapping[str, Any]) -> bool:
    """As its server says; of one that says nothing, whether it is given an address."""
    if tool.open_world is not None:
        return tool.open_world
    return _ADDRESS.search(json.dumps(dict(arguments), ensure_ascii=False)) is not None


def _long(seconds: float) -> str:
    count, unit = (seconds, "second") if seconds < 60 else (seconds / 60, "minute")
    return f"{round(count, 2):g} {unit}{'' if count == 1 else 's'}"


def arguments_hash(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """Of this call: another tool or other arguments have another one."""
    return _digest([tool.server, tool.name, dict(arguments)])


def fingerprint(tool: Tool, whole_server: bool) -> str:
    """Of the trusted server with all its tools, or with what it says of this one."""
    if whole_server:
        return f"{BOUND}{_digest([tool.trust_of_all])}"
    return f"{BOUND}{_digest([tool.trust, tool_hash(tool)])}"


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
