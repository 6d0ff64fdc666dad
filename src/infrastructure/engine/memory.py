"""What a model takes, what the machine has, and the settings that follow."""

import os
import sys
from pathlib import Path
from typing import Final

import psutil

from core.errors import NotEnoughMemory
from infrastructure.engine.catalogue import Model
from infrastructure.engine.config import DEFAULT_CONTEXT, EngineConfig
from infrastructure.engine.process import ChildSettings

_OVERHEAD: Final = 256 << 20
_SLACK: Final = 512 << 20
_SHARE: Final = 0.6
_SMALL: Final = 2 << 30
_EMBEDDING_CONTEXT: Final = 2048


def needed(settings: ChildSettings, model: Model) -> int:
    """Bytes: weights, cache and working room."""
    cache = model.header.cache_bytes(settings.context_length * settings.parallel)
    return settings.file_bytes + cache + _OVERHEAD


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
    model: Model,
    instance_id: str,
    config: EngineConfig,
    *,
    context_length: int | None = None,
    parallel: int | None = None,
    batch: int | None = None,
    flash_attention: bool | None = None,
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
        context_length=min(context_length or usual, most),
        parallel=1 if model.is_embedding else parallel or (2 if size < _SMALL else 1),
        batch=batch or 256,
        threads=config.threads or _physical_cores(),
        # Read, not mapped: only then is llama.cpp's progress true. Very large files are mapped,
        # so that they do not push out everything else.
        load_mode="NONE" if size <= psutil.virtual_memory().available / 2 else "MMAP",
        flash_attention=flash_attention,
        chat_template=model.template,
        temperature=model.temperature,
        repeat_penalty=model.repeat_penalty,
        embedding=model.is_embedding,
        pooling=None if model.header.number("pooling_type") else "mean",
        file_bytes=size,
    )
    limit = needed(wanted, model) + _SLACK
    return wanted.model_copy(update={"data_limit": limit})


def _physical_cores() -> int:
    """Those we may use; a second thread on a core gains nothing here."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(usable, psutil.cpu_count(logical=False) or usable))
