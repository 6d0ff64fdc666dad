"""Routing: where a request would go, and why, without sending it."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from api.services import Desk
from core.preferences import Task
from core.routing import Need, Route, tokens_in
from core.value import Value

router = APIRouter(prefix="/routing", tags=["routing"])


class Preview(Value):
    """A request that is not sent."""

    content: str = Field(default="", max_length=400_000)
    """The question; its task is guessed from it."""
    model_id: str | None = Field(default=None, max_length=500)
    """`auto` or a name; left out, what the settings say."""
    agent_id: str | None = None
    task: Task | None = None
    """Left out, it is guessed."""
    tokens: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """Of the whole prompt; left out, reckoned from `content`."""
    vision: bool = False
    tools: bool = False


@router.post("/preview")
async def preview(body: Preview, desk: Desk) -> Route:
    """Which models would be asked, best first, why, and what was passed over."""
    agent = desk.agents.get(body.agent_id) if body.agent_id else None
    need = Need(
        text=body.content,
        agent_id=body.agent_id,
        task=body.task,
        tokens=tokens_in([body.content]) if body.tokens is None else body.tokens,
        vision=body.vision,
        tools=body.tools,
        alternatives=agent.models if agent else (),
    )
    return await desk.router.route(body.model_id, need)
