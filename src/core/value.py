"""The base of every value that travels between the rooms."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable value. Unknown fields are an error, so a typo cannot pass silently."""

    model_config = ConfigDict(frozen=True, extra="forbid")
