"""RunHost: one run as the loop sees it; remembers what ended the run."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from core.errors import ModelNotFound
from core.ports import RawAnswer
from core.runs_calls import Calls
from core.runs_door import ModelDoor
from core.runs_errors import RunOver
from core.runs_ports import Outcome
from core.runs_record import RunRecord
from core.tools import Tool, ToolResult


class RunHost:
    """Fits `core.runs_ports.LoopHost`."""

    def __init__(self, door: ModelDoor, record: RunRecord, calls: Calls) -> None:
        self._door = door
        self._record = record
        self._calls = calls
        self.failure: Exception | None = None
        """What ended the loop, however the loop words it."""

    @property
    def attempts(self) -> int:
        return self._door.attempts

    def ask(self, body: Mapping[str, Any]) -> AbstractAsyncContextManager[RawAnswer]:
        return self._door.ask(body)

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

    def proposed(self, call_id: str, name: str) -> None:
        self._record.proposed(call_id, "", name)

    def used(self, input_tokens: int | None, output_tokens: int | None) -> None:
        self._record.used(input_tokens, output_tokens)
        self._record.end_request()

    def failed(self, error: Exception) -> None:
        if isinstance(error, ModelNotFound):
            error = self._door.gone(error)
        if self.failure is None:
            self.failure = error

    def goes_to_schema(self, message: str) -> None:
        self._record.change(schema_mode=True)
        self._record.note("schema_mode", f"{message} The model writes its calls as JSON.")

    def notice(self, code: str, message: str) -> None:
        self._record.note(code, message)

    async def call(self, call_id: str, tool: Tool, arguments: Mapping[str, Any]) -> Outcome:
        try:
            return await self._calls.call(call_id, tool, arguments)
        except RunOver as over:
            self.failed(over)
            raise

    def looked_up(self, call_id: str, name: str, arguments: Mapping[str, Any], found: str) -> None:
        self._record.written(call_id, "", name, arguments)
        self._record.finished(call_id, ToolResult(found), seconds=0.0, cut=False)

    def invalid(self, call_id: str, name: str, arguments: object, message: str) -> None:
        self._record.written(
            call_id, "", name, arguments if isinstance(arguments, dict) else {"": arguments}
        )
        self._record.refused(call_id, "invalid", message)
