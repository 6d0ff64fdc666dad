"""Leftover: what a download that was broken off has brought of a file."""

from core.errors import Conflict, NotFound
from core.value import Value


class LeftoverNotFound(NotFound):
    """No broken-off download left such a file."""

    code = "leftover_not_found"


class LeftoverInUse(Conflict):
    """A download is bringing this very file."""

    code = "leftover_in_use"


class Leftover(Value):
    """The beginning of a file that nobody is bringing now."""

    name: str
    """Its path in the models folder, with slashes; names it to whoever deletes it."""
    file: str
    """What the whole file would be called, with its owner and repository."""
    bytes: int
    changed_at: float
    """Unix seconds."""
