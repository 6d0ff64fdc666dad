"""What is asked over LM Studio's WebSockets, in the core's words; None is "the server cannot tell"."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from core.models import (
    LoadOptions,
    MemoryEstimate,
    ModelKind,
    Processing,
    ProcessingStatus,
)
from infrastructure.providers.lmstudio.sockets import Sockets
from infrastructure.providers.shapes import Nice

# It may have to read the file first.
ESTIMATE_SECONDS = 20.0
_KINDS: tuple[ModelKind, ...] = ("llm", "embedding")
_STATES: dict[str, ProcessingStatus] = {
    "idle": "idle",
    "processingPrompt": "reading",
    "generating": "generating",
    "computingEmbedding": "embedding",
}


class WireDownloaded(BaseModel):
    """One entry of `listDownloadedModels`."""

    modelKey: str  # noqa: N815 - theirs
    type: Nice[str] = None
    displayName: Nice[str] = None  # noqa: N815
    sizeBytes: Nice[int] = None  # noqa: N815
    paramsString: Nice[str] = None  # noqa: N815


class WireLoaded(WireDownloaded):
    """One entry of `listLoaded`, and what a load ends with."""

    identifier: str
    contextLength: Nice[int] = None  # noqa: N815


class _WireMemory(BaseModel):
    totalBytes: float  # noqa: N815
    totalVramBytes: Nice[float] = None  # noqa: N815
    modelBytes: Nice[float] = None  # noqa: N815
    contextBytes: Nice[float] = None  # noqa: N815
    confidence: Nice[str] = None


class _WireEstimate(BaseModel):
    memory: _WireMemory
    passesGuardrails: Nice[bool] = None  # noqa: N815


Shape = TypeVar("Shape", bound=BaseModel)


async def downloaded(sockets: Sockets) -> list[WireDownloaded]:
    """Every model on the disk. Raises MethodMissing, CallRefused or ProviderUnreachable, as all here."""
    return _all(WireDownloaded, await sockets.call("system", "listDownloadedModels"))


async def loaded(sockets: Sockets) -> list[WireLoaded]:
    """Every instance in memory, of both kinds."""
    entries: list[WireLoaded] = []
    for kind in _KINDS:
        entries += _all(WireLoaded, await sockets.call(kind, "listLoaded"))
    return entries


async def unload(sockets: Sockets, kind: ModelKind, instance_id: str) -> None:
    """Returns when the server says that it is done."""
    await sockets.call(kind, "unloadModel", {"identifier": instance_id})


async def estimate(
    sockets: Sockets, kind: ModelKind, model_id: str, options: LoadOptions
) -> MemoryEstimate | None:
    """What a load with these options would need."""
    said = await sockets.call(
        kind,
        "estimateModelUsage",
        {"modelKey": model_id, "loadConfigStack": config_stack(kind, options)},
        seconds=ESTIMATE_SECONDS,
    )
    wire = _one(_WireEstimate, said)
    if wire is None:
        return None
    memory = wire.memory
    return MemoryEstimate(
        model_bytes=_bytes(memory.modelBytes),
        context_bytes=_bytes(memory.contextBytes),
        vram_bytes=_bytes(memory.totalVramBytes),
        total_bytes=int(memory.totalBytes),
        confident=memory.confidence == "high",
        fits=wire.passesGuardrails,
    )


async def processing(sockets: Sockets, kind: ModelKind, instance_id: str) -> Processing | None:
    """What the instance is doing; None also when it is gone."""
    said = await sockets.call(
        kind,
        "getInstanceProcessingState",
        {"specifier": specifier(instance_id), "throwIfNotFound": False},
    )
    if not isinstance(said, dict) or (status := _STATES.get(str(said.get("status")))) is None:
        return None
    queued = said.get("queued")
    return Processing(status=status, queued=queued if isinstance(queued, int) else 0)


async def count_tokens(
    sockets: Sockets, kind: ModelKind, instance_id: str, text: str
) -> int | None:
    """As the model's own tokenizer counts."""
    said = await sockets.call(
        kind, "countTokens", {"specifier": specifier(instance_id), "inputString": text}
    )
    count = said.get("tokenCount") if isinstance(said, dict) else None
    return count if isinstance(count, int) else None


async def context_length(sockets: Sockets, kind: ModelKind, instance_id: str) -> int | None:
    """The context an instance was really loaded with."""
    said = await sockets.call(kind, "getLoadConfig", {"specifier": specifier(instance_id)})
    fields = said.get("fields") if isinstance(said, dict) else None
    for field in fields if isinstance(fields, list) else ():
        if isinstance(field, dict) and field.get("key") == f"{kind}.load.contextLength":
            value = field.get("value")
            return value if isinstance(value, int) else None
    return None


def specifier(instance_id: str) -> dict[str, Any]:
    """Names an instance."""
    return {"type": "query", "query": {"identifier": instance_id}}


def config_stack(kind: ModelKind, options: LoadOptions) -> dict[str, Any]:
    """Load options as the server has them; an embedder has only some."""
    fields = [
        {"key": f"{kind}.load.{key}", "value": value}
        for key, value in _settings(kind, options).items()
        if value is not None
    ]
    if not fields:
        return {"layers": []}
    return {"layers": [{"layerName": "apiOverride", "config": {"fields": fields}}]}


def instance(said: object) -> WireLoaded | None:
    """What a load ended with, if it can be read."""
    return _one(WireLoaded, said)


def _settings(kind: ModelKind, options: LoadOptions) -> dict[str, Any]:
    shared = {
        "contextLength": options.context_length,
        "llama.acceleration.offloadRatio": _ratio(options.gpu_offload),
    }
    if kind == "embedding":
        return shared
    cache = options.kv_cache_type
    quantized = None if cache is None else {"checked": True, "value": cache}
    return shared | {
        "llama.flashAttention": options.flash_attention,
        "llama.kCacheQuantizationType": quantized,
        "llama.vCacheQuantizationType": quantized,
        "llama.evalBatchSize": options.eval_batch_size,
        "numParallelSessions": options.parallel,
    }


def _ratio(share: float | None) -> float | str | None:
    return share if share is None or 0 < share < 1 else "max" if share else "off"


def _bytes(value: float | None) -> int | None:
    return None if value is None else int(value)


def _all(shape: type[Shape], said: object) -> list[Shape]:
    entries = [_one(shape, entry) for entry in said] if isinstance(said, list) else []
    return [entry for entry in entries if entry is not None]


def _one(shape: type[Shape], said: object) -> Shape | None:
    try:
        return shape.model_validate(said)
    except ValidationError:
        return None
