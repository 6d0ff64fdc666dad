"""A round of a comparison under way, and steps of it that are not broken off in the middle."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from core.comparisons import Order
from core.errors import DeskError
from core.jobs import Job
from core.models import ModelInfo


@dataclass(slots=True)
class LiveRound:
    """What is known of it beside what is kept."""

    comparison_id: str
    content: str | None
    """None for the last questions again."""
    job: Job
    order: Order
    models: dict[int, ModelInfo]
    """By column, as they were when everything was checked."""
    place: int = -1
    """Among the rounds; -1 until it is kept there."""
    skipped: set[int] = field(default_factory=set)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """The first columns are asked, or it ended before."""
    trouble: DeskError | None = None
    """What broke it off."""


async def surely(work: Coroutine[Any, Any, None]) -> None:
    """Cancelled meanwhile, it is done first: half of it could leave an answer that nobody writes."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(DeskError):
            await task
        raise
