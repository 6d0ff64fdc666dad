"""The base of every value that travels between the rooms."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

# Controls, and what turns the direction of the text behind it.
_UNWRITTEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def one_line(text: Any) -> Any:
    """Text without breaks, and without signs that nobody writes into a name."""
    return re.sub(r"\s", " ", _UNWRITTEN.sub("", text)) if isinstance(text, str) else text


Line = Annotated[str, BeforeValidator(one_line)]


class Value(BaseModel):
    """An immutable value. Unknown fields are an error, so a typo cannot pass silently."""

    model_config = ConfigDict(frozen=True, extra="forbid")
