"""RunHost: one run as the loop sees it; remembers what ended the run."""

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from core import running_plan
from core.errors import DeskError, ModelNotFound
from core.ports import RawAnswer
from core.running_plan import SAME_PLANS, BadPlan
from core.runs_calls import Calls
from core.runs_door import ModelDoor
from core.runs_errors import ModelChangedDuringExecution, RunOver
from core.runs_ports import Outcome
from core.runs_record import RunRecord
from core.tools import Tool, ToolResult

LAST_QUESTION = (
    "This is the end of the work: no more tools can be used. Say in a few sentences what was done,"
    " what you found out, and what is still missing."
)
# Limits that leave room for a last word. Who runs out of minutes has no time for one.
SPENT = ("limit_rounds", "limit_tokens")


class RunHost:
    """Fits `core.runs_ports.LoopHost`."""

    def __init__(
        self,
        door: ModelDoor,
        record: RunRecord,
        calls: Calls,
        *,
        plan: bool = False,
        plan_in_schema: bool = False,
    ) -> None:
        """`plan`: the model has the tool of the running plan; `plan_in_schema`: also where it
        turns out that it has to write its calls as JSON."""
        self._door = door
        self._record = record
        self._calls = calls
        self._plan = plan
        self._offers_plan = plan
        self._plan_in_schema = plan_in_schema
        self._same_plans = 0
        self.failure: Exception | None = None
        """What ended the loop, however the loop words it."""
        self.over: RunOver | None = None
        """The limit that was reached, once the model is asked for a last word."""

    @property
    def attempts(self) -> int:
        return self._door.attempts

    @property
    def offers_plan(self) -> bool:
        """Not while it only repeats itself, which would be all it does until the rounds are spent."""
        return self._offers_plan and self._same_plans < SAME_PLANS

    def ask(self, body: Mapping[str, Any]) -> AbstractAsyncContextManager[RawAnswer]:
        return self._door.ask(body, last=self.over is not None)

    def begin(self) -> None:
        """Raises RunOver at a limit."""
        self._record.end_request()
        self._door.check_limits()
        self._record.begin_step()

    def answered(self, model: str) -> None:
        self._door.answered(model)

    def first_byte(self) -> None:
        self._door.first_byte()

    def text(self, content: str) -> None:
        self._record.text(content)

    def reasoning(self, content: str) -> None:
        self._record.reasoning(content)

    def was_thinking(self) -> None:
        self._record.was_thinking()

    def proposed(self, call_id: str, name: str) -> None:
        if self.over is not None or (self._plan and name == running_plan.NAME):
            return  # nothing that will run
        self._record.proposed(call_id, "", name)

    def used(self, input_tokens: int | None, output_tokens: int | None) -> None:
        self._record.used(input_tokens, output_tokens)
        self._record.end_request()

    def failed(self, error: Exception) -> None:
        if isinstance(error, ModelNotFound):
            error = self._door.gone(error)
        if self.failure is None:
            self.failure = error

    def planned(self, arguments: object) -> str:
        try:
            plan = running_plan.read(arguments)
        except BadPlan as bad:
            self._same_plans += 1
            self._record.plan_refused(str(bad))
            return f"The plan was not taken. {bad}"
        if plan.items == self._record.plan:
            self._same_plans += 1
            self._record.planned(plan.items)
            return "The plan is as it was. Go on with the work itself."
        self._same_plans = 0
        self._record.planned(plan.items)
        done, count = running_plan.counted(plan.items)
        return f"The person sees the plan: {done} of {count} done. {plan.told}".strip()

    def last_question(self) -> str | None:
        over = self.failure or self._spent()
        if not isinstance(over, RunOver) or over.reason not in SPENT or self.over is not None:
            return None
        if not self._record.amid_work:
            return None
        self.over, self.failure = over, None
        self._record.begin_step(summary=True)
        return LAST_QUESTION

    def ends_anyway(self, error: Exception) -> RunOver | None:
        """The limit that was reached, where all that failed is the last word."""
        changed = isinstance(self.failure, ModelChangedDuringExecution)
        if self.over is None or changed or not isinstance(error, DeskError):
            return None
        self._record.note("no_summary", f"There is no summary. {error.message}")
        return self.over

    def _spent(self) -> RunOver | None:
        """An answer that was cut short where the tokens ended is no failure of the model's."""
        try:
            self._door.check_tokens()
        except RunOver as over:
            return over
        return None

    def goes_to_schema(self, message: str) -> None:
        self._offers_plan = self._plan_in_schema
        self._record.change(schema_mode=True)
        self._record.note("schema_mode", f"{message} The model writes its calls as JSON.")

    def notice(self, code: str, message: str) -> None:
        self._record.note(code, message)

    async def call(self, call_id: str, tool: Tool, arguments: Mapping[str, Any]) -> Outcome:
        self._same_plans = 0
        try:
            return await self._calls.call(call_id, tool, arguments)
        except RunOver as over:
            self.failed(over)
            raise

    def looked_up(self, call_id: str, name: str, arguments: Mapping[str, Any], found: str) -> None:
        self._record.written(call_id, "", name, arguments)
        self._record.finished(call_id, ToolResult(found), seconds=0.0, cut=False)

    def invalid(self, call_id: str, name: str, arguments: object, message: str) -> None:
        self._record.written(call_id, "", name, _as_object(arguments))
        self._record.refused(call_id, "invalid", message)


def _as_object(arguments: object) -> Mapping[str, Any]:
    """What the model wrote, under an empty name where it is no object."""
    found = arguments
    if isinstance(arguments, str):
        try:
            found = json.loads(arguments)
        except (ValueError, RecursionError):
            found = arguments
    return found if isinstance(found, dict) else {"": found}
