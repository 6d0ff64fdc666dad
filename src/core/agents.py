"""Agents: named ways of working."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from core.chat import Parameters
from core.errors import AgentNotFound
from core.tools import ApprovalMode
from core.value import Line, Value

Ability = Literal["vision", "tools", "reasoning"]
PlanMode = Literal[
    "auto",  # where the model is likely to make good use of it
    "on",
    "off",
]


class AgentTool(Value):
    """A tool an agent may use, or all tools of a server."""

    server: str = Field(min_length=1, max_length=100)
    tool: str | None = Field(default=None, max_length=200)
    """None: all of the server's."""
    approval: ApprovalMode = "read-only"


class AgentLimits(Value):
    """Where a run ends by itself."""

    rounds: int = Field(default=20, ge=1, le=200)
    """Requests to the model."""
    tokens: int = Field(default=200_000, ge=100, le=10_000_000)
    """Read and written together."""
    minutes: float = Field(default=30, gt=0, le=24 * 60)
    result_chars: int = Field(default=32_000, ge=200, le=2_000_000)
    """Of a tool's result the model gets at most so much; the person gets all."""


class AgentDraft(Value):
    """What a person says about an agent."""

    name: Line = Field(min_length=1, max_length=80)
    description: Line = Field(default="", max_length=300)
    """What it is for, in a sentence."""
    instructions: str = Field(default="", max_length=100_000)
    """May hold variables such as `{{date}}`."""
    picture: Line = Field(default="", max_length=16)
    """An emoji; empty for the first letter of the name."""
    parameters: Parameters = Parameters()
    models: tuple[str, ...] = Field(default=(), max_length=20)
    """Models it wants, best first: names or patterns such as `*coder*`. They weigh most for `auto`,
    and answer when the model asked for fails before its first word."""
    needs: tuple[Ability, ...] = Field(default=(), max_length=3)
    """What its model must be able to do."""
    starters: tuple[str, ...] = Field(default=(), max_length=6)
    """First messages for an empty chat."""
    tools: tuple[AgentTool, ...] = Field(default=(), max_length=100)
    limits: AgentLimits = AgentLimits()
    plan: PlanMode = "auto"
    """Whether it may keep a running plan while it works with tools."""
    strict: bool = True
    """An answer from another model than the one asked for is a failure."""


class Agent(AgentDraft):
    """An agent there is."""

    id: str
    builtin: bool = False
    version: int = 1
    """Grows with each change."""
    updated_at: float | None = None
    """Unix seconds; None for a built-in one."""

    @property
    def draft(self) -> AgentDraft:
        """What a person says about it, without what follows from its being kept."""
        return AgentDraft(**self.model_dump(include=set(AgentDraft.model_fields)))


def no_agent(agent_id: str, agents: Mapping[str, Agent]) -> AgentNotFound:
    """The error for an id that none of these has."""
    names = ", ".join(agent.name for agent in agents.values())
    return AgentNotFound(
        f"There is no agent {agent_id!r} (any more).",
        hint=f"There are: {names}. A deleted one can be brought back.",
    )
