"""What runs need of the outside world, and what they offer to the loop."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from core.chat import Parameters
from core.eventlog import Event
from core.ports import RawAnswer
from core.runs import AllowedTool, RunInfo, RunPage
from core.tools import Tool, ToolImage, ToolResult


class LoopSpec(NamedTuple):
    """What the loop works on."""

    task: str
    instructions: str
    tools: Sequence[Tool]
    parameters: Parameters
    schema_mode: bool
    """The model writes JSON of a given shape instead of tool calls."""
    may_change_mode: bool
    """It may go over to that where the server takes no tools."""
    local: bool
    """Whether a server of this machine's kind serves it, which knows more than OpenAI's parameters."""
    vision: bool
    """Whether the model can be shown pictures."""
    context_length: int | None
    plan: bool
    """Whether the model has the tool of the running plan."""


class Outcome(NamedTuple):
    """What the model gets for a call."""

    text: str
    images: tuple[ToolImage, ...] = ()


class LoopHost(Protocol):
    """The run, as the loop sees it. Everything the loop does goes through here.

    What it raises must end the loop: the host remembers it and the loop's own words for it do not
    matter.
    """

    @property
    def attempts(self) -> int:
        """How often a request is repeated that failed before its first word."""
        ...

    @property
    def offers_plan(self) -> bool:
        """Whether the next request tells the model of the running plan's tool."""
        ...

    def ask(self, body: Mapping[str, Any]) -> AbstractAsyncContextManager[RawAnswer]:
        """The model's answer to a chat completion, its `model` filled in.

        Raises RunOver at a limit, or what keeps the provider from answering.
        """
        ...

    def begin(self) -> None:
        """A request to the model begins: a new step."""
        ...

    def answered(self, model: str) -> None:
        """The name in the answer. Raises ModelChangedDuringExecution if it is another one."""
        ...

    def first_byte(self) -> None: ...
    def text(self, content: str) -> None: ...
    def reasoning(self, content: str) -> None: ...
    def was_thinking(self) -> None:
        """All text of this request so far."""
        ...

    def proposed(self, call_id: str, name: str) -> None:
        """The model begins to write a call."""
        ...

    def used(self, input_tokens: int | None, output_tokens: int | None) -> None:
        """What the request cost, when its answer is complete."""
        ...

    def failed(self, error: Exception) -> None:
        """This ended the answer: the run ends with it."""
        ...

    def goes_to_schema(self, message: str) -> None:
        """The server takes no tools: the model writes JSON from now on."""
        ...

    def notice(self, code: str, message: str) -> None: ...
    def planned(self, arguments: object) -> str:
        """The model wrote its plan anew; what it is told. Whatever it sent, the run goes on."""
        ...

    def last_question(self) -> str | None:
        """The loop ended early: what the model is asked once more, without tools, for a last word.

        None where it ended for another reason than a limit amid its work. Then nothing is asked.
        """
        ...

    async def call(self, call_id: str, tool: Tool, arguments: Mapping[str, Any]) -> Outcome:
        """Run a call, once it may run. Raises RunOver."""
        ...

    def looked_up(self, call_id: str, name: str, arguments: Mapping[str, Any], found: str) -> None:
        """The model asked for tools by what they do, and was told of these."""
        ...

    def invalid(self, call_id: str, name: str, arguments: object, message: str) -> None:
        """A call that cannot be run: no such tool, or arguments that are no JSON."""
        ...


class AgentLoop(Protocol):
    """Asks the model and runs its calls, until it answers without any."""

    async def run(self, spec: LoopSpec, host: LoopHost) -> str:
        """The answer; empty where the host's `last_question` was asked. Raises what the host raised, or LoopFailed."""
        ...


class RunStore(Protocol):
    """Where runs are kept. All methods raise StorageError when the disk fails."""

    async def add_run(self, run: RunInfo) -> None: ...
    async def write_run(self, run: RunInfo, events: Sequence[Event]) -> None:
        """Replace what is kept of it, and add these events."""
        ...

    async def run(self, run_id: str) -> RunInfo:
        """Raises RunNotFound."""
        ...

    async def runs(self, *, chat_id: str | None, limit: int, offset: int) -> RunPage: ...
    async def run_events(self, run_id: str, *, after: int) -> list[Event]:
        """Those behind this number, neighbouring deltas merged."""
        ...

    async def keep_result(self, run_id: str, call_id: str, result: ToolResult) -> None:
        """Whole, however long."""
        ...

    async def result(self, run_id: str, call_id: str) -> ToolResult:
        """Raises RunNotFound."""
        ...

    async def delete_run(self, run_id: str) -> None:
        """Hide it; `restore_run` brings it back until `purge_runs`. Raises RunNotFound."""
        ...

    async def restore_run(self, run_id: str) -> RunInfo:
        """The run, no longer deleted. Raises RunNotFound once it is gone for good."""
        ...

    async def purge_runs(self, *, before: float | None, deleted_before: float) -> int:
        """Remove for good, with all that belongs to them, runs that were deleted before this Unix
        time, whose chat is gone, or that began before that one outside of chats; how many.
        """
        ...

    async def interrupt_runs(self, *, reason: str) -> int:
        """End every run that is still kept as running; how many. For the start."""
        ...

    async def allowed_tools(self) -> list[AllowedTool]: ...
    async def allow_tool(self, allowed: AllowedTool) -> None: ...
    async def forget_allowed(self, server: str, tool: str | None) -> None: ...
