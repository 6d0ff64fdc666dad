"""The built-in engine as a program of its own; the command knows it only through here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from api.settings import Settings
from infrastructure.engine.config import EngineConfig
from infrastructure.engine.server import run


def run_engine(
    settings: Settings, *, models_dirs: Sequence[Path], profile: Literal["0.3", "0.4"]
) -> None:
    """Serve models at the settings' address until a signal comes. Blocks."""
    budget = settings.engine_memory_budget
    run(
        EngineConfig(
            host=settings.host,
            port=settings.port,
            models_dirs=(*models_dirs, settings.models_dir or settings.data_dir / "models"),
            data_dir=settings.data_dir,
            profile=profile,
            token=settings.token,
            memory_budget=int(budget) if budget is not None else None,
        )
    )
