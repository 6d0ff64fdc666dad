"""How an engine is set up."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from core.value import Value
from infrastructure.engine import quirks
from infrastructure.engine.quirks import Quirk

DEFAULT_CONTEXT = 4096
DEFAULT_TTL_SECONDS = 3600


class EngineConfig(Value):
    """Everything an engine is told; it reads no settings of its own."""

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    """0 picks a free one."""
    models_dirs: tuple[Path, ...] = ()
    shared_folders: bool = True
    """Whether to look in LM Studio's model folders and the Hugging Face cache, too."""
    data_dir: Path | None = None
    """Where a fetched starter model is kept."""
    starter: bool = True
    """Whether to offer the starter model."""
    profile: Literal["0.4", "0.3"] = "0.4"
    token: SecretStr | None = None
    """With one, every request but the greeting must carry it. The 0.3 profile knows no tokens."""
    memory_budget: int | None = Field(default=None, ge=1)
    """Bytes for all models together; None is 60 % of the machine."""
    just_in_time: bool = True
    """Whether a request loads the model it names."""
    default_ttl_seconds: int = Field(default=DEFAULT_TTL_SECONDS, ge=1)
    """How long a model loaded by a request stays after the last one."""
    keep_only_last: bool = True
    """Whether such a load takes the place of the one before."""
    quirks: frozenset[Quirk] = quirks.DEFAULT
    """Which oddities of LM Studio to play, for tests."""
    threads: int | None = Field(default=None, ge=1)
    """None is one for each physical core."""
    parent: int | None = None
    """A process whose end ends the engine."""
    announce: bool = False
    """Whether to write `{"url": …}` to stdout once listening, and to end when stdin does."""

    @property
    def required_token(self) -> str | None:
        """What a client must bring; None: nothing."""
        if self.token is None or self.profile == "0.3":
            return None
        return self.token.get_secret_value()
