"""Runs: an agent working on a task with tools, as it is asked for, shown and kept."""

from typing import Any, Literal

from pydantic import Field

from core.agents import AgentLimits, PlanMode
from core.chats import Problem, Tried
from core.jobs import JobState
from core.tools import ApprovalMode
from core.value import Value

MAX_TASK_CHARS = 400_000

ToolMode = Literal[
    "auto",  # as the model's abilities say
    "native",  # the server's own tool calls
    "schema",  # the model writes JSON of a given shape: for those without tool support
]
CallState = Literal[
    "proposed",  # the model writes it
    "waiting",  # for a person
    "running",
    "success",
    "failure",
    "denied",
    "invalid",  # no such tool, or arguments that are no JSON
    "stopped",  # the run ended first
]
PlanState = Literal["open", "in_progress", "done", "dropped"]
RememberFor = Literal[
    "run",  # this tool, until the run ends
    "tool",  # this tool as it is now, in every run
    "server",  # all tools of the server, in every run
]


class RunDraft(Value):
    """What a person asks for."""

    task: str
    servers: tuple[str, ...] = ()
    """Tool servers it may use; empty for those of the agent."""
    agent_id: str | None = None
    model: str | None = None
    """A name, or `auto`; None is what the agent and the settings say."""
    max_rounds: int | None = Field(default=None, ge=1, le=200)
    """Requests to the model. None: as the agent says."""
    max_tokens: int | None = Field(default=None, ge=100, le=10_000_000)
    """Read and written together."""
    max_minutes: float | None = Field(default=None, gt=0, le=24 * 60)
    approve: ApprovalMode | None = None
    """None: as the agent says of each tool, or `read-only`. Of two modes the stricter one counts."""
    tools: ToolMode = "auto"
    plan: PlanMode | None = None
    """Whether the model may keep a running plan. None: as the agent says."""
    chat_id: str | None = None


class CallRecord(Value):
    """One call of a tool."""

    id: str
    server: str
    """Empty for a tool that does not exist."""
    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What it ran with."""
    asked_arguments: dict[str, Any] | None = None
    """What the model had written, where a person changed it."""
    state: CallState = "proposed"
    preview: str = ""
    """The beginning of the result, or what went wrong."""
    size: int = 0
    """Of the whole result, in characters."""
    images: int = 0
    cut: bool = False
    """The model got only the beginning."""
    began_at: float | None = None
    """Unix seconds of the call itself; None before it runs."""
    doing: str = ""
    """What its server says while it runs."""
    seconds: float | None = None
    """Of the call itself, without the wait for a person."""
    decided_by: str | None = None
    """`person`, `timeout`, `remembered` or `mode`: who let it run or kept it from running."""


class PlanItem(Value):
    """One thing of a running plan."""

    text: str
    state: PlanState = "open"


class PlanNote(Value):
    """What a step did to the running plan."""

    done: int = 0
    count: int = 0
    """Of its items; without those that were dropped."""
    problem: str = ""
    """Why it is as it was; empty where it was taken."""


class RunStep(Value):
    """One request to the model, and the calls that came of it."""

    number: int
    summary: bool = False
    """The last word of a run that came to its limit: asked for without tools."""
    plan: PlanNote | None = None
    """Set where it wrote its plan anew."""
    why: str = ""
    """What it wrote before its calls; in the last step, the answer."""
    reasoning: str = ""
    calls: tuple[CallRecord, ...] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float = 0.0
    """Of the request alone."""


class RunUsage(Value):
    """What it cost."""

    requests: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Read and written together."""
        return self.input_tokens + self.output_tokens


class Approval(Value):
    """A call that waits for a person."""

    call_id: str
    server: str
    tool: str
    arguments: dict[str, Any]
    arguments_hash: str
    """A decision for these arguments covers no others."""
    why: str
    """Why it is asked about."""
    read_only: bool | None = None
    destructive: bool | None = None
    open_world: bool | None = None
    requested_at: float
    expires_at: float
    """Unix seconds; then it counts as denied."""


class Decision(Value):
    """What a person says to it."""

    decision: Literal["approve", "deny"]
    arguments: dict[str, Any] | None = None
    """Run it with these instead."""
    arguments_hash: str | None = None
    """Of the arguments the person saw; with another one nothing is decided."""
    message: str | None = Field(default=None, max_length=4000)
    """For the model, with a denial."""
    remember: RememberFor | None = None


class AllowedTool(Value):
    """Calls that a person let run for good."""

    server: str
    tool: str | None = None
    """None: all of the server's."""
    fingerprint: str = ""
    """Of the tool, or of all of them, and of the server as a person trusted it: what changed is
    asked about again."""
    at: float


class RunInfo(Value):
    """A run as others see it, and as it is kept."""

    id: str
    """Also the id of its job."""
    task: str
    state: JobState = "running"
    reason: str | None = None
    error: Problem | None = None
    servers: tuple[str, ...] = ()
    agent_id: str | None = None
    chat_id: str | None = None
    model_id: str
    """Full name."""
    instance_id: str | None = None
    context_length: int | None = None
    load_seconds: float | None = None
    """Set where the model had to be loaded for it."""
    approve: ApprovalMode | None = None
    limits: AgentLimits
    schema_mode: bool = False
    """The model has no tool support, and writes JSON instead."""
    tried: tuple[Tried, ...] = ()
    """Models that failed before it, each before its first word, in order."""
    created_at: float
    ended_at: float | None = None
    output: str = ""
    plan: tuple[PlanItem, ...] = ()
    """What the model said it will do and how far it is, as it said so last."""
    steps: tuple[RunStep, ...] = ()
    usage: RunUsage = RunUsage()
    approvals: tuple[Approval, ...] = ()


class RunPage(Value):
    """Some of the runs, newest first, without their steps."""

    runs: tuple[RunInfo, ...]
    total: int
