"""What the API answers beyond the core's words: small values that only travel over HTTP."""

from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from core.hardware import HardwareSnapshot
from core.jobs import JobInfo
from core.models import ProviderHealth


class Reply(BaseModel):
    """An immutable answer. Unknown fields are left out, so a newer API does no harm."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TurnStarted(Reply):
    """An answer is under way."""

    job_id: str
    message_id: str
    user_message_id: str | None = None


class Acted(Reply):
    """A model was loaded or unloaded, and a re-read shows it."""

    success: bool
    message: str
    model_id: str


class ChatPulse(Reply):
    """Whether a chat moved on. `revision` grows whenever its messages change."""

    id: str
    revision: int = 0
    running_job_id: str | None = None


class Pulse(Reply):
    """Everything a screen needs once a second. The revisions grow when those lists change."""

    at: float
    """Unix seconds."""
    version: str
    hardware: HardwareSnapshot | None = None
    models_revision: int = 0
    chats_revision: int = 0
    providers: tuple[ProviderHealth, ...] = ()
    embedded_in_use: bool = False
    jobs: tuple[JobInfo, ...] = ()
    chat: ChatPulse | None = None


class JobEvent(NamedTuple):
    """One event of a job. `number` is None for a tick, which nobody resumes from."""

    number: int | None
    type: str
    data: dict[str, Any]
