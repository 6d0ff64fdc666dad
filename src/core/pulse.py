"""What a screen polls once a second: everything that changes by itself, in one small value."""

from pydantic import ConfigDict

from core.hardware import HardwareSnapshot
from core.jobs import JobInfo
from core.models import ProviderHealth
from core.value import Value


class ChatPulse(Value):
    """Whether a chat moved on."""

    # Screen and API may be of different versions when they run apart.
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    revision: int = 0
    """Grows whenever its messages change."""
    running_job_id: str | None = None


class Pulse(Value):
    """The state of the desk. The revisions grow when those lists change."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float
    """Unix seconds."""
    version: str
    hardware: HardwareSnapshot | None = None
    models_revision: int = 0
    chats_revision: int = 0
    providers: tuple[ProviderHealth, ...] = ()
    embedded_in_use: bool = False
    picks_loaded: bool = True
    """Whether a screen on which no model was picked yet begins with a loaded one."""
    default_model: str | None = None
    """What the settings name for it, where that is a model and not `auto`."""
    jobs: tuple[JobInfo, ...] = ()
    chat: ChatPulse | None = None
