"""The rest of the door: the machine, and the pulse a screen polls."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from api.services import Desk, Services
from api.sse import HEADERS, MEDIA_TYPE
from core.hardware import HardwareHistory, HardwareSnapshot
from core.monitor import HardwareMonitor
from core.preferences import AUTO
from core.pulse import ChatPulse, Pulse
from core.version import VERSION

router = APIRouter()


@router.get("/hardware", tags=["hardware"])
@router.get("/hardware/", include_in_schema=False)
async def hardware(desk: Desk) -> HardwareSnapshot:
    """The machine now."""
    return await desk.monitor.latest()


@router.get("/hardware/history", tags=["hardware"])
async def hardware_history(
    desk: Desk, seconds: Annotated[float, Query(gt=0, le=300)] = 300
) -> HardwareHistory:
    """The last minutes, a sample a second."""
    return desk.monitor.history(seconds)


@router.get("/hardware/events", tags=["hardware"])
async def hardware_events(desk: Desk) -> StreamingResponse:
    """Each new sample as a Server-Sent Event."""
    return StreamingResponse(_samples(desk.monitor), media_type=MEDIA_TYPE, headers=HEADERS)


@router.get("/pulse", tags=["pulse"])
async def pulse(desk: Desk, chat_id: str | None = None) -> Pulse:
    """What a screen polls once a second."""
    desk.watch.someone_looks()
    # Other programs' requests come by the hundred; what a screen shows of them are their loads.
    running = [job for job in desk.jobs.list(state="running") if job.kind != "request"]
    return Pulse(
        at=time.time(),
        version=VERSION,
        hardware=desk.monitor.newest,
        models_revision=desk.library.revision,
        chats_revision=desk.revisions.chats,
        providers=tuple(desk.watch.healths),
        embedded_in_use=desk.watch.embedded_in_use,
        picks_loaded=desk.upkeep.picks_loaded,
        default_model=_named(desk.configuration.settings.models.default),
        jobs=tuple(desk.jobs.info(job) for job in running),
        chat=_chat_pulse(desk, chat_id) if chat_id else None,
    )


def _named(model: str) -> str | None:
    return None if model.casefold() == AUTO else model


def _chat_pulse(desk: Services, chat_id: str) -> ChatPulse:
    turn = next(
        (j.id for j in desk.jobs.list(state="running", kind="turn") if j.chat_id == chat_id), None
    )
    return ChatPulse(id=chat_id, revision=desk.revisions.of(chat_id), running_job_id=turn)


async def _samples(monitor: HardwareMonitor) -> AsyncGenerator[str]:
    async with aclosing(monitor.watch()) as samples:
        async for sample in samples:
            yield f"data: {sample.model_dump_json()}\n\n"
