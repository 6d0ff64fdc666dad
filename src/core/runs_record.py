"""RunRecord: what a run has done so far, and the events that tell of it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from core.chats import Problem, Tried
from core.jobs import Job, JobState
from core.running_plan import counted
from core.runs import Approval, CallRecord, PlanItem, PlanNote, RunInfo, RunStep, RunUsage
from core.tools import ToolResult

# Of a result so much is shown in the timeline; the whole of it is one click away.
PREVIEW_CHARS = 1000
# Of what a server says meanwhile.
DOING_CHARS = 200
# Of text and thinking each step keeps so much in the record; the events have all of it.
KEPT_CHARS = 200_000
OPEN = ("proposed", "waiting", "running")


class _Step:
    """One step while it is made."""

    def __init__(self, number: int, *, summary: bool) -> None:
        self.number = number
        self.summary = summary
        self.plan: PlanNote | None = None
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[str, CallRecord] = {}
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.began = time.monotonic()
        self.seconds: float | None = None

    def done(self) -> RunStep:
        """As it is now."""
        spent = time.monotonic() - self.began if self.seconds is None else self.seconds
        return RunStep(
            number=self.number,
            summary=self.summary,
            plan=self.plan,
            why="".join(self.text)[:KEPT_CHARS],
            reasoning="".join(self.reasoning)[:KEPT_CHARS],
            calls=tuple(self.calls.values()),
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            seconds=round(spent, 3),
        )


class RunRecord:
    """Kept up to date by the run; `info` is a snapshot of it."""

    def __init__(self, job: Job, info: RunInfo) -> None:
        self._job = job
        self._info = info
        self._steps: list[_Step] = []
        self._began = time.monotonic()
        self._over_at: float | None = None
        self._tool_calls = 0
        self._deltas = 0
        self.approvals: dict[str, Approval] = {}
        self.usage = RunUsage()

    @property
    def info(self) -> RunInfo:
        """As it is now."""
        spent = (self._over_at or time.monotonic()) - self._began
        return self._info.model_copy(
            update={
                "steps": tuple(step.done() for step in self._steps),
                "usage": self.usage.model_copy(update={"seconds": round(spent, 3)}),
                "approvals": tuple(self.approvals.values()),
            }
        )

    def change(self, **changes: Any) -> None:
        """Set fields of the run itself."""
        self._info = self._info.model_copy(update=changes)

    def note(self, code: str, message: str) -> None:
        """Tell the person something."""
        self._job.emit("notice", code=code, message=message)

    def start_over(self, model_id: str, tried: Tried) -> None:
        """A model failed before its first word, and another one is asked from the start."""
        self._steps.clear()
        self.usage = self.usage.model_copy(update={"requests": 0})
        asked = {"model_id": model_id, "instance_id": None, "context_length": None}
        self.change(**asked, schema_mode=False, tried=(*self._info.tried, tried))

    # -- one request -----------------------------------------------------------------------------

    def begin_step(self, *, summary: bool = False) -> None:
        """A request begins; `summary`: the last one, for a last word."""
        self.end_request()
        step = _Step(len(self._steps) + 1, summary=summary)
        self._steps.append(step)
        self._deltas = 0
        self.usage = self.usage.model_copy(update={"requests": step.number})
        more = {"summary": True} if summary else {}
        self._job.emit("step.start", step=step.number, **more)
        self._job.enter("reading", stage=f"step {step.number}")

    def text(self, content: str) -> None:
        self._deltas += 1
        self._steps[-1].text.append(content)
        self._job.enter("writing", stage=f"step {self._steps[-1].number}")
        self._job.text("message.delta", content)

    def reasoning(self, content: str) -> None:
        self._deltas += 1
        self._steps[-1].reasoning.append(content)
        self._job.enter("thinking", stage=f"step {self._steps[-1].number}")
        self._job.text("reasoning.delta", content)

    def was_thinking(self) -> None:
        """What this step wrote so far was no answer."""
        step = self._steps[-1]
        step.reasoning += step.text
        step.text.clear()
        self._job.enter("thinking", stage=f"step {step.number}")
        self._job.emit("message.was_thinking")

    def used(self, input_tokens: int | None, output_tokens: int | None) -> None:
        """Without the server's own figures, a delta counts as a token."""
        step = self._steps[-1]
        if step.output_tokens is not None:
            return
        written = self._deltas if output_tokens is None else output_tokens
        step.input_tokens, step.output_tokens = input_tokens, written
        self.usage = self.usage.model_copy(
            update={
                "input_tokens": self.usage.input_tokens + (input_tokens or 0),
                "output_tokens": self.usage.output_tokens + written,
            }
        )
        self._job.emit(
            "usage",
            step=step.number,
            input_tokens=input_tokens,
            output_tokens=written,
            total_tokens=self.usage.tokens,
        )

    def end_request(self) -> None:
        """The model's answer is complete, or broke off."""
        if self._steps and self._steps[-1].seconds is None:
            step = self._steps[-1]
            step.seconds = time.monotonic() - step.began
            if step.output_tokens is None and self._deltas:
                self.used(None, None)

    # -- the plan --------------------------------------------------------------------------------

    @property
    def plan(self) -> tuple[PlanItem, ...]:
        """As it is now."""
        return self._info.plan

    def planned(self, items: Sequence[PlanItem]) -> None:
        """The model wrote its plan anew."""
        done, count = counted(items)
        self.change(plan=tuple(items))
        step = self._steps[-1]
        step.plan = PlanNote(done=done, count=count)
        told = [item.model_dump(mode="json") for item in items]
        self._job.emit("plan.updated", step=step.number, items=told, done=done, count=count)

    def plan_refused(self, message: str) -> None:
        """It wrote one that cannot be taken."""
        done, count = counted(self.plan)
        step = self._steps[-1]
        step.plan = PlanNote(done=done, count=count, problem=message)
        self._job.emit("plan.refused", step=step.number, message=message)

    # -- calls -----------------------------------------------------------------------------------

    def proposed(self, call_id: str, server: str, tool: str) -> None:
        """The model begins to write it."""
        step = self._steps[-1]
        step.calls[call_id] = CallRecord(id=call_id, server=server, tool=tool)
        self._job.emit(
            "tool_call.start", step=step.number, call_id=call_id, server=server, tool=tool
        )

    def written(
        self, call_id: str, server: str, tool: str, arguments: Mapping[str, Any]
    ) -> CallRecord:
        """The model has written all of it."""
        if self._find(call_id) is None:
            self.proposed(call_id, server, tool)
        call = self.change_call(call_id, server=server, tool=tool, arguments=dict(arguments))
        self._tool_calls += 1
        self.usage = self.usage.model_copy(update={"tool_calls": self._tool_calls})
        self._job.emit(
            "tool_call.arguments",
            call_id=call_id,
            server=server,
            tool=tool,
            arguments=call.arguments,
        )
        return call

    def change_call(self, call_id: str, **changes: Any) -> CallRecord:
        """Set fields of a call."""
        step = self._find(call_id)
        assert step is not None
        step.calls[call_id] = call = step.calls[call_id].model_copy(update=changes)
        self._say_where()
        return call

    def _say_where(self) -> None:
        """For lists and late comers: a person is waited for, whatever else runs meanwhile."""
        asked = next(iter(self.approvals.values()), None)
        if asked is not None:
            self._job.enter("queued", stage=f"waiting for you: {asked.server}.{asked.tool}")
            return
        calls = (call for step in reversed(self._steps) for call in step.calls.values())
        running = next((call for call in calls if call.state == "running"), None)
        if running is not None:
            self._job.enter("tools", stage=f"{running.server}.{running.tool}")

    def finished(
        self, call_id: str, result: ToolResult, *, seconds: float, cut: bool
    ) -> CallRecord:
        """The tool answered; that may also be the tool's own error."""
        call = self.change_call(
            call_id,
            state="failure" if result.is_error else "success",
            preview=result.text[:PREVIEW_CHARS],
            size=len(result.text),
            images=len(result.images),
            cut=cut,
            seconds=round(seconds, 3),
        )
        self._job.emit(f"tool_call.{call.state}", **_told(call))
        return call

    def call_progress(self, call_id: str, done: float, total: float | None, message: str) -> None:
        """The server says how far it is."""
        share = f"{done / total:.0%}" if total and 0 <= done <= total else ""
        words = ", ".join(filter(None, (message.strip()[:DOING_CHARS], share)))
        self.change_call(call_id, doing=words)
        self._job.emit(
            "tool_call.progress", call_id=call_id, progress=done, total=total, message=message
        )

    def refused(self, call_id: str, state: str, message: str, **changes: Any) -> None:
        """It did not run, or broke: `state` is denied, invalid or failure."""
        changes = {"state": state, "preview": message[:PREVIEW_CHARS], **changes}
        call = self.change_call(call_id, **changes)
        self._job.emit("tool_call.failure", **_told(call), reason=call.preview)

    # -- the end ---------------------------------------------------------------------------------

    def end(
        self, state: JobState, reason: str | None, *, output: str, problem: Problem | None
    ) -> None:
        """Nothing more will come."""
        self.end_request()
        self._over_at = time.monotonic()
        self.approvals.clear()
        for step in self._steps:
            for call in step.calls.values():
                if call.state in OPEN:
                    step.calls[call.id] = call.model_copy(update={"state": "stopped"})
        output = output or self.last_words
        self.change(state=state, reason=reason, error=problem, output=output, ended_at=time.time())

    @property
    def amid_work(self) -> bool:
        """Whether tools were used, and what came last is no answer."""
        if not any(step.calls for step in self._steps):
            return False
        last = self._steps[-1]
        return bool(last.calls) or last.plan is not None or not "".join(last.text).strip()

    @property
    def last_words(self) -> str:
        """What it wrote last."""
        texts = ("".join(step.text).strip() for step in reversed(self._steps))
        return next((text for text in texts if text), "")

    def _find(self, call_id: str) -> _Step | None:
        return next((step for step in reversed(self._steps) if call_id in step.calls), None)


def _told(call: CallRecord) -> dict[str, Any]:
    return {
        "call_id": call.id,
        "server": call.server,
        "tool": call.tool,
        "state": call.state,
        "output": call.preview,
        "size": call.size,
        "images": call.images,
        "cut": call.cut,
        "seconds": call.seconds,
    }


def result_of(run: RunInfo) -> dict[str, Any]:
    """For the job's last event."""
    return {
        "run_id": run.id,
        "model_id": run.model_id,
        "output": run.output,
        "steps": [step.model_dump(mode="json") for step in run.steps],
        "usage": run.usage.model_dump(mode="json"),
    }
