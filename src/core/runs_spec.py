"""What a plan becomes: the run as it is kept, and what its loop works on."""

import time
from datetime import datetime

from core.chat import Parameters
from core.families import billions, has_vision
from core.instructions import filled
from core.leases import Lease
from core.models import ModelInfo
from core.running_plan import is_offered
from core.runs import RunInfo
from core.runs_plan import INSTRUCTIONS, RunPlan
from core.runs_ports import LoopSpec
from core.turn_plan import NOW_ASKS

# Smaller ones know the form of a call from their template, and make up code instead.
NATIVE_BILLIONS = 0.5
# Of a task so much stands in a list; a run that is read has all of it.
LISTED_CHARS = 400


def fresh_run(run_id: str, plan: RunPlan) -> RunInfo:
    """A run as it is kept before anything happened."""
    return RunInfo(
        id=run_id,
        task=plan.draft.task,
        servers=plan.servers,
        agent_id=plan.agent.id if plan.agent else None,
        chat_id=plan.draft.chat_id,
        model_id=plan.model.full_name,
        approve=plan.draft.approve,
        limits=plan.limits,
        created_at=time.time(),
    )


def listed_run(run: RunInfo) -> RunInfo:
    """As a list shows it: in a chat without the conversation before the question, and not all of
    what is long."""
    task = run.task.rpartition(NOW_ASKS)[2] if run.chat_id else run.task
    if len(task) > LISTED_CHARS:
        task = f"{task[:LISTED_CHARS]}…"
    return run.model_copy(update={"task": task})


def why_schema(model: ModelInfo) -> str | None:
    """Why this model writes its calls as JSON unless somebody says otherwise; None: it does not."""
    if model.capabilities.tools is False:
        return f"{model.full_name} has no tool support of its own"
    # As it is told, or named: the size of a file is a guess.
    size = billions(model.model_copy(update={"size_bytes": None}))
    if size is not None and size < NATIVE_BILLIONS:
        return f"{model.full_name} is too small to call tools by itself"
    return None


def spec_of(plan: RunPlan, lease: Lease) -> LoopSpec:
    """The plan on the instance that was leased for it."""
    model, agent = lease.model, plan.agent
    parts = [INSTRUCTIONS] if plan.tools else []
    if agent is not None:
        now = datetime.now().astimezone()
        said = agent.parameters.system_prompt or agent.instructions
        parts.insert(0, filled(said, agent=agent.name, model=model, now=now))
    schema = plan.draft.tools == "schema" or (
        plan.draft.tools == "auto" and why_schema(model) is not None
    )
    schema = schema and bool(plan.tools)
    return LoopSpec(
        task=plan.draft.task,
        instructions="\n\n".join(part for part in parts if part.strip()),
        tools=plan.tools,
        parameters=agent.parameters if agent else Parameters(),
        schema_mode=schema,
        may_change_mode=plan.draft.tools == "auto",
        local=model.loadable,
        vision=has_vision(model),
        context_length=lease.instance.context_length,
        plan=is_offered(
            plan.plan_mode,
            model,
            plan.tools,
            schema_mode=schema,
            window=lease.instance.context_length,
            rounds=plan.limits.rounds,
        ),
    )
