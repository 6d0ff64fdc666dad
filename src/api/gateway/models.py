"""`GET /v1/models`: every provider's models, from the library's lists."""

from typing import Any

import orjson

from api.services import Services
from core.models import ModelInfo
from core.preferences import AUTO


class ModelList:
    """The list as bytes, made anew when a list or the state of a model changed."""

    def __init__(self) -> None:
        self._revision: int | None = None
        self._raw = b""

    async def raw(self, desk: Services) -> bytes:
        models = await desk.library.models()
        if self._revision != desk.library.revision:
            self._raw = orjson.dumps({"object": "list", "data": [_auto(), *map(entry, models)]})
            self._revision = desk.library.revision
        return self._raw


async def one(desk: Services, name: str) -> bytes:
    """Raises ModelNotFound or ModelAmbiguous."""
    if name == AUTO:
        return orjson.dumps(_auto())
    return orjson.dumps(entry(await desk.library.resolve(name)))


def entry(model: ModelInfo) -> dict[str, Any]:
    """One model as OpenAI lists it, with what else clients like to know."""
    return {
        "id": model.full_name,
        "object": "model",
        "created": 0,
        "owned_by": model.provider,
        "name": model.name,
        "type": model.kind,
        "state": model.state,
        "context_length": model.context_length,
        "max_tokens": model.max_tokens,
        "quantization": model.quantization,
        "capabilities": model.capabilities.model_dump(),
        "stale": model.stale_since is not None,
    }


def _auto() -> dict[str, Any]:
    return {"id": AUTO, "object": "model", "created": 0, "owned_by": "lmdesk", "name": "Automatic"}
