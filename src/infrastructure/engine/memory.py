"""What a model takes, what the machine has, and the settings that follow."""

import os
import sys
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from core.errors import NotEnoughMemory
from infrastructure.engine.catalogue import Model
from infrastructure.engine.config import DEFAULT_CONTEXT, EngineConfig
from infrastructure.engine.instance import LoadWish
from infrastructure.engine.process import ChildSettings

_OVERHEAD: Final = 256 << 20
_SLACK: Final = 512 << 20
_SHARE: Final = 0.6
# An empty process with llama.cpp in it, and what each word of a vocabulary and each layer adds.
_PROCESS: Final = 69 << 19
_PER_WORD: Final = 430
_PER_BLOCK: Final = 64 << 10
_UBATCH: Final = 512
_SMALL: Final = 2 << 30
_EMBEDDING_CONTEXT: Final = 2048


class Estimate(NamedTuple):
    """What a loaded model will really take, in bytes."""

    weights: int
    cache: int
    working: int
    """The process itself and its buffers."""

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.working


def needed(settings: ChildSettings, model: Model) -> int:
    """Bytes to keep free for it: weights, cache and ample working room."""
    return settings.file_bytes + _cache(settings, model) + _OVERHEAD


def estimate(settings: ChildSettings, model: Model) -> Estimate:
    """What its process will hold once it has read a long prompt; measured, not only reckoned."""
    header = model.header
    tokens = settings.context_length if settings.embedding else min(settings.batch, _UBATCH)
    width, hidden = header.number("embedding_length"), header.number("feed_forward_length")
    # For each token of a batch: three rows of the feed-forward part, five of the network, and the
    # mask of the context, which is half full on average.
    row = 3 * hidden + 5 * width + settings.context_length // 2
    if settings.flash_attention is False:
        row += header.number("attention.head_count", 1) * settings.context_length // 2
    process = _PROCESS + _PER_WORD * header.vocabulary + _PER_BLOCK * header.number("block_count")
    return Estimate(settings.file_bytes, _cache(settings, model), process + 4 * row * tokens)


def budget(config: EngineConfig) -> int:
    """Bytes for all models together."""
    if config.memory_budget:
        return config.memory_budget
    total = psutil.virtual_memory().total
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        limit = "max"
    if limit.isdigit():
        total = min(total, int(limit))
    return int(total * _SHARE)


def too_large(need: int, free: int) -> NotEnoughMemory:
    """In LM Studio's words, which clients look for, and with the figures."""
    return NotEnoughMemory(
        "Model loading was stopped due to insufficient system resources. Under the current "
        f"settings, this model requires approximately {need / 1e9:.2f} GB of memory, and "
        f"{max(0, free) / 1e9:.2f} GB are free for models. Continuing to load the model would "
        "likely overload your system and cause it to freeze.",
        hint="Unload another model, choose a smaller one, or ask for a shorter context.",
    )


def settings_for(
    model: Model, instance_id: str, config: EngineConfig, wish: LoadWish
) -> ChildSettings:
    """What is not asked for is chosen to suit the model and the machine."""
    most = model.header.context_length or DEFAULT_CONTEXT
    usual = _EMBEDDING_CONTEXT if model.is_embedding else DEFAULT_CONTEXT
    size = model.size_bytes
    if model.projector:
        size += model.projector.stat().st_size
    wanted = ChildSettings(
        id=instance_id,
        path=str(model.path),
        projector=str(model.projector) if model.projector else None,
        context_length=min(wish.context_length or usual, most),
        parallel=1 if model.is_embedding else wish.parallel or (2 if size < _SMALL else 1),
        batch=wish.batch or 256,
        threads=config.threads or _physical_cores(),
        load_mode="MMAP" if _maps(wish, size) else "NONE",
        flash_attention=wish.flash_attention,
        k_cache_type=wish.k_cache_type or "f16",
        v_cache_type=wish.v_cache_type or "f16",
        gpu_layers=_gpu_layers(wish, model),
        offload_cache=wish.offload_cache is not False,
        chat_template=model.template,
        temperature=model.temperature,
        repeat_penalty=model.repeat_penalty,
        embedding=model.is_embedding,
        pooling=None if model.header.number("pooling_type") else "mean",
        file_bytes=size,
    )
    limit = needed(wanted, model) + _SLACK
    return wanted.model_copy(update={"data_limit": limit})


def _cache(settings: ChildSettings, model: Model) -> int:
    tokens = settings.context_length * settings.parallel
    return model.header.cache_bytes(tokens, settings.k_cache_type, settings.v_cache_type)


def _maps(wish: LoadWish, size: int) -> bool:
    """Read, not mapped: only then is llama.cpp's progress true.

    Very large files are mapped, so that they do not push out everything else.
    """
    if wish.mapped is not None:
        return wish.mapped
    return size > psutil.virtual_memory().available / 2


def _gpu_layers(wish: LoadWish, model: Model) -> int | None:
    if wish.gpu_ratio is None:
        return None
    # One more than there are blocks: the output layer.
    return round(wish.gpu_ratio * (model.header.number("block_count") + 1))


def _physical_cores() -> int:
    """Those we may use; a second thread on a core gains nothing here."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(usable, psutil.cpu_count(logical=False) or usable))
