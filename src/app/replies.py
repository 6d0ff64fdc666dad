"""What the API answers beyond the core's words: small values that only travel over HTTP."""

from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict


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


class JobEvent(NamedTuple):
    """One event of a job. `number` is None for a tick, which nobody resumes from."""

    number: int | None
    type: str
    data: dict[str, Any]
