"""Load settings as the client libraries send them, and as they are told what became of them."""

from collections.abc import Mapping
from typing import Any

from infrastructure.engine.instance import Instance, LoadWish
from infrastructure.engine.quantizations import CACHE_TYPES
from infrastructure.engine.sdk.frames import CallError, Parameter
from infrastructure.engine.selection import Kind
from infrastructure.engine.wire import Json

_MOST_BATCH = 65536
_MOST_SLOTS = 64


class Field(Parameter):
    """One setting."""

    key: str
    value: Any = None


class Config(Parameter):
    """Settings of one layer."""

    fields: list[Field]


class Layer(Parameter):
    """Settings with where they come from."""

    layer_name: str
    config: Config


class Stack(Parameter):
    """Layers; a later one wins."""

    layers: list[Layer]

    def values(self) -> dict[str, Any]:
        return {one.key: one.value for layer in self.layers for one in layer.config.fields}

    def has(self, layer_name: str) -> bool:
        return any(layer.layer_name == layer_name for layer in self.layers)


def wish_of(
    stack: Stack,
    kind: Kind,
    *,
    on_demand: bool = False,
    identifier: str | None = None,
    ttl_seconds: float | None = None,
) -> LoadWish:
    """What the client wants of a load. Raises CallError for a value that makes no sense."""
    given = _Given(stack.values(), f"{kind}.load.")
    return LoadWish(
        on_demand=on_demand,
        identifier=identifier,
        ttl_seconds=ttl_seconds,
        context_length=given.whole("contextLength"),
        parallel=given.whole("numParallelSessions", _MOST_SLOTS),
        batch=given.whole("llama.evalBatchSize", _MOST_BATCH),
        flash_attention=given.flag("llama.flashAttention"),
        k_cache_type=given.cache_type("llama.kCacheQuantizationType"),
        v_cache_type=given.cache_type("llama.vCacheQuantizationType"),
        gpu_ratio=given.ratio("llama.acceleration.offloadRatio"),
        offload_cache=given.flag("offloadKVCacheToGpu"),
        mapped=given.flag("llama.tryMmap"),
    )


def config_of(instance: Instance, kind: Kind) -> Json:
    """How an instance was really loaded, in the words of a load."""
    settings, has_gpu = instance.child.settings, instance.child.has_gpu
    blocks = instance.model.header.number("block_count") + 1
    layers = blocks if settings.gpu_layers is None else settings.gpu_layers
    values: Json = {
        "contextLength": settings.context_length,
        "llama.acceleration.offloadRatio": min(1.0, layers / blocks) if has_gpu else "off",
        "llama.evalBatchSize": settings.batch,
        "llama.tryMmap": settings.load_mode == "MMAP",
    }
    if kind == "llm":
        values |= {
            "numParallelSessions": settings.parallel,
            "useUnifiedKvCache": False,
            "offloadKVCacheToGpu": has_gpu and settings.offload_cache,
            "llama.flashAttention": settings.flash_attention is not False,
            "llama.kCacheQuantizationType": _checkbox(settings.k_cache_type),
            "llama.vCacheQuantizationType": _checkbox(settings.v_cache_type),
        }
    return {"fields": [{"key": f"{kind}.load.{k}", "value": v} for k, v in values.items()]}


class _Given:
    """Values by key, each checked as it is taken."""

    def __init__(self, values: Mapping[str, Any], prefix: str) -> None:
        self._values = values
        self._prefix = prefix

    def whole(self, key: str, most: int | None = None) -> int | None:
        value = self._get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise self._wrong(key, "a whole number")
        if value < 1 or (most is not None and value > most):
            raise self._wrong(key, f"between 1 and {most}" if most else "1 or more")
        return int(value)

    def flag(self, key: str) -> bool | None:
        value = self._get(key)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def ratio(self, key: str) -> float | None:
        value = self._get(key)
        if value is None or value == "max":
            return None if value is None else 1.0
        if value == "off":
            return 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._wrong(key, "a number from 0 to 1, 'max' or 'off'")
        return float(value)

    def cache_type(self, key: str) -> str | None:
        value = self._get(key)
        if isinstance(value, dict):
            value = value.get("value") if value.get("checked") else None
        if value is None or value is False:
            return None
        if value not in CACHE_TYPES:
            raise self._wrong(key, "one of " + ", ".join(CACHE_TYPES))
        return str(value)

    def _get(self, key: str) -> Any:
        return self._values.get(self._prefix + key)

    def _wrong(self, key: str, wanted: str) -> CallError:
        return CallError(f"The load setting {self._prefix}{key} must be {wanted}.")


def _checkbox(cache_type: str) -> Json:
    return {"checked": cache_type != "f16", "value": cache_type}
