"""Calls: one run's calls of tools, with the rules that hold for them."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from core.errors import DeskError
from core.runs_approvals import Approvals, Verdict, arguments_hash
from core.runs_errors import RunOver
from core.runs_ports import Outcome, RunStore
from core.runs_record import RunRecord
from core.runs_text import clean
from core.tools import Tool, ToolBox, ToolResult

# A call that takes longer is broken off, and the model is told so.
CALL_SECONDS = 60.0
# The same call with the same arguments so often is a circle.
SAME_CALLS = 3


class Calls:
    """Runs them."""

    def __init__(
        self,
        run_id: str,
        toolbox: ToolBox,
        store: RunStore,
        record: RunRecord,
        approvals: Approvals,
        *,
        result_chars: int,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        """Of a result the model gets at most `result_chars`; the person gets all of it."""
        self._run_id = run_id
        self._toolbox = toolbox
        self._store = store
        self._record = record
        self._approvals = approvals
        self._result_chars = result_chars
        self._call_seconds = call_seconds
        self._made: Counter[str] = Counter()

    async def call(self, call_id: str, tool: Tool, arguments: Mapping[str, Any]) -> Outcome:
        """What the model is told of it; a call that fails does not end the run.

        Raises RunOver when it is the same call once too often.
        """
        arguments = clean(dict(arguments))
        self._record.written(call_id, tool.server, tool.name, arguments)
        self._count(call_id, tool, arguments)
        verdict = await self._approvals.verdict(call_id, tool, arguments)
        if not verdict.allowed:
            return self._denied(call_id, verdict)
        changes: dict[str, Any] = {
            "state": "running",
            "decided_by": verdict.by,
            "began_at": time.time(),
        }
        if verdict.arguments is not None:
            changes |= {
                "asked_arguments": dict(arguments),
                "arguments": clean(dict(verdict.arguments)),
            }
            arguments = clean(dict(verdict.arguments))
        self._record.change_call(call_id, **changes)
        outcome = await self._run(call_id, tool, arguments)
        if verdict.arguments is None:
            return outcome
        told = f"The person changed the arguments of this call; it ran with {dict(arguments)}.\n"
        return outcome._replace(text=told + outcome.text)

    async def _run(self, call_id: str, tool: Tool, arguments: Mapping[str, Any]) -> Outcome:
        began = time.monotonic()

        def progressed(done: float, total: float | None, message: str) -> None:
            self._record.call_progress(call_id, done, total, message)

        try:
            result = await self._toolbox.call(
                tool.server,
                tool.name,
                arguments,
                seconds=self._call_seconds,
                on_progress=progressed,
            )
        except DeskError as error:
            said = f"{error.message} {error.hint}".strip()
            self._record.refused(
                call_id, "failure", said, seconds=round(time.monotonic() - began, 3)
            )
            self._approvals.saw_result(tool, arguments, failed=True)
            return Outcome(f"The call failed: {said}")
        self._approvals.saw_result(tool, arguments)
        result = result._replace(text=clean(result.text))
        # First, so that whoever hears of the result can read all of it.
        await self._store.keep_result(self._run_id, call_id, result)
        text = self._capped(result)
        self._record.finished(
            call_id,
            result,
            seconds=time.monotonic() - began,
            cut=len(result.text) > self._result_chars,
        )
        return Outcome(
            f"The tool reports an error: {text}" if result.is_error else text, result.images
        )

    def _count(self, call_id: str, tool: Tool, arguments: Mapping[str, Any]) -> None:
        mark = arguments_hash(tool, arguments)
        self._made[mark] += 1
        if self._made[mark] < SAME_CALLS:
            return
        message = f"The model called {tool.full_name} with the same arguments for the {SAME_CALLS}rd time."
        self._record.refused(call_id, "failure", message)
        raise RunOver("stopped", "repeated_call", message)

    def _denied(self, call_id: str, verdict: Verdict) -> Outcome:
        said = verdict.message or "No reason was given."
        self._record.refused(call_id, "denied", said, decided_by=verdict.by)
        return Outcome(f"This call was not allowed and did not run. {said}")

    def _capped(self, result: ToolResult) -> str:
        text = result.text
        if not text and not result.images and not result.is_error:
            return "The tool answered with nothing."
        if len(text) <= self._result_chars:
            return text
        return (
            f"{text[: self._result_chars]}\n[Only the first {self._result_chars:,} of"
            f" {len(text):,} characters. Ask for less if you need the rest.]"
        )
