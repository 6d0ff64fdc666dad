"""What a plan becomes: the run as it is kept, and what its loop works on."""

import time
from datetime import datetime

from core.chat import Parameters
from core.families import has_vision
from core.instructions import filled
from core.leases import Lease
from core.running_plan import is_offered
from core.runs import RunInfo
from core.runs_plan import INSTRUCTIONS, RunPlan
from core.runs_ports import LoopSpec


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


def spec_of(plan: RunPlan, lease: Lease) -> LoopSpec:
    """The plan on the instance that was leased for it."""
    model, agent = lease.model, plan.agent
    parts = [INSTRUCTIONS] if plan.tools else []
    if agent is not None:
        now = datetime.now().astimezone()
        said = agent.parameters.system_prompt or agent.instructions
        parts.insert(0, filled(said, agent=agent.name, model=model, now=now))
    schema = plan.draft.tools == "schema" or (
        plan.draft.tools == "auto" and model.capabilities.tools is False
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
