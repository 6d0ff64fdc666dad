"""What a router's event stream says of one model's load; on servers without it, just silence."""

import asyncio
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, ValidationError

from core.errors import ProviderError, ProviderTimeout
from core.models import LoadProgress
from infrastructure.providers.openai.stream import LineSplitter
from infrastructure.providers.server import HttpServer, Stream
from infrastructure.providers.shapes import Nice

_STAGES = {
    "text_model": "reading weights",
    "mmproj_model": "reading the projector",
    "spec_model": "reading the draft model",
}


class WireProgress(BaseModel):
    """How far the stage at hand is, 0 to 1."""

    stages: Nice[list[str]] = None
    current: Nice[str] = None
    value: float


class WireData(BaseModel):
    """What has changed."""

    status: str
    progress: Nice[WireProgress] = None


class WireEvent(BaseModel):
    """One event of GET /models/sse."""

    model: str
    data: WireData


class Said(NamedTuple):
    """One thing the server said of the model."""

    state: str
    progress: LoadProgress | None


class LoadEvents:
    """Open before the load begins, so that nothing is missed; close it."""

    def __init__(self, server: HttpServer, model_id: str) -> None:
        self._server = server
        self._model_id = model_id
        self._stream: Stream | None = None
        self._lines = LineSplitter()

    async def open(self) -> None:
        """Raises ProviderError only where the server does not answer at all."""
        stream = await self._server.open(
            "/models/sse", None, method="GET", seconds=self._server.seconds
        )
        if stream.is_events:
            self._stream = stream
        else:
            stream.close()

    async def next(self, *, seconds: float) -> list[Said]:
        """What was said since, after at most so many seconds."""
        if self._stream is None:
            await asyncio.sleep(seconds)
            return []
        try:
            chunk = await self._stream.read(seconds=seconds)
        except ProviderTimeout:
            return []
        except ProviderError:
            chunk = b""
        if not chunk:
            self.close()  # the list has to tell the rest
        return [said for line in self._lines.feed(chunk) if (said := self._read(line))]

    def close(self) -> None:
        """Let go of the stream; never waits."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _read(self, line: bytes) -> Said | None:
        if not line.startswith(b"data:"):
            return None
        try:
            event = WireEvent.model_validate(_json(line[5:]))
        except ValidationError:
            return None
        if event.model != self._model_id:
            return None
        return Said(event.data.status, _progress(event.data.progress))


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _progress(wire: WireProgress | None) -> LoadProgress | None:
    if wire is None:
        return None
    stages = wire.stages or []
    done = stages.index(wire.current) if wire.current in stages else 0
    fraction = (done + wire.value) / max(1, len(stages))
    current = wire.current or ""
    return LoadProgress(
        fraction=min(1.0, max(0.0, fraction)),
        exact=True,
        stage=_STAGES.get(current, current.replace("_", " ")) or None,
    )
