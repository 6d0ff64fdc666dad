"""Downloads by LM Studio itself: its own route, and what it says about how far they are."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from core.errors import (
    DownloadFailed,
    HubModelNotFound,
    NotDownloadable,
    ProviderError,
    ProviderTimeout,
    ProviderUnreachable,
)
from core.hub import Transfer
from infrastructure.http import Reply
from infrastructure.providers.lmstudio.server import Server
from infrastructure.providers.problems import quoted, reply_problem
from infrastructure.providers.shapes import Nice

POLL_SECONDS: Final = 0.7
# Before LM Studio answers it looks the model up on the internet.
START_SECONDS: Final = 60.0
# Looks in a row that may fail, as while LM Studio restarts.
FAILED_LOOKS: Final = 8


class WireDownload(BaseModel):
    """What both routes answer."""

    status: Literal["downloading", "paused", "completed", "failed", "already_downloaded"]
    job_id: Nice[str] = None
    downloaded_bytes: Nice[int] = None
    total_size_bytes: Nice[int] = None
    bytes_per_second: Nice[float] = None
    error_message: Nice[str] = None
    error: Nice[str] = None


async def download(
    server: Server, model: str, quantization: str | None, *, poll_seconds: float = POLL_SECONDS
) -> AsyncGenerator[Transfer]:
    """Start one, or join the one LM Studio makes already, and follow it to its end.

    Raises NotDownloadable where this version cannot, DownloadFailed with LM Studio's reason, or
    another ProviderError.
    """
    body = {"model": model} | ({"quantization": quantization} if quantization else {})
    reply = await server.post("/api/v1/models/download", body, seconds=START_SECONDS)
    at = _read(server, reply, model)
    size = at.total_size_bytes
    while at.status in ("downloading", "paused"):
        if at.job_id is None:
            raise DownloadFailed(f"{server.wording.who} does not say which download it started.")
        yield Transfer(
            downloaded_bytes=at.downloaded_bytes or 0,
            total_bytes=size,
            bytes_per_second=at.bytes_per_second if at.status == "downloading" else None,
            stage="paused in LM Studio" if at.status == "paused" else None,
        )
        await asyncio.sleep(poll_seconds)
        at = await _look(server, at.job_id, model, poll_seconds)
        size = at.total_size_bytes or size
    if at.status == "failed":
        raise DownloadFailed(
            f"{server.wording.who} could not download it: {quoted(at.error_message or at.error or '')}",
            hint="Look at its own downloads. Starting it again goes on where it stopped.",
        )
    yield Transfer(downloaded_bytes=size or at.downloaded_bytes or 0, total_bytes=size)


async def _look(server: Server, job_id: str, model: str, poll_seconds: float) -> WireDownload:
    path = f"/api/v1/models/download/status/{quote(job_id, safe='')}"
    failures = 0
    while True:
        try:
            said = _read(server, await server.get(path), model)
            return said.model_copy(update={"job_id": job_id})
        except (ProviderUnreachable, ProviderTimeout):
            failures += 1
            if failures >= FAILED_LOOKS:
                raise
            await asyncio.sleep(poll_seconds)


def _read(server: Server, reply: Reply, model: str) -> WireDownload:
    if reply.route_missing:
        raise NotDownloadable(
            "This LM Studio cannot be told to download models.",
            hint="Update it to 0.4 or later, or download the model in its own window.",
        )
    error = reply.error
    if error is not None and error.type == "job_not_found":
        raise DownloadFailed(
            f"{server.wording.who} does not know this download any more.",
            hint="It may have been restarted. Start the download again.",
        )
    try:
        # A download that failed says so in a field that other answers keep for refusals.
        return WireDownload.model_validate(reply.body)
    except ValidationError:
        pass
    problem = reply_problem(reply, server.wording)
    if reply.status == 404 or (error is not None and "not_found" in (error.type or error.code)):
        raise HubModelNotFound(
            f"{server.wording.who} does not find {model}.", hint="Check how it is written."
        ) from problem
    if not isinstance(problem, ProviderError):
        raise DownloadFailed(problem.message, hint=problem.hint) from problem
    raise problem
