"""What is wrong with a field of a request, in words for a person instead of a schema's."""

from collections.abc import Mapping
from typing import Any

_PLACES = frozenset({"body", "query", "path", "header"})
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "an object",
    "model": "an object",
}


def field_of(error: Mapping[str, Any]) -> str:
    """Its name, dotted where it lies inside of another one; empty for the body as a whole."""
    first, *rest = error["loc"] or ("",)
    return ".".join(str(part) for part in (rest if first in _PLACES else (first, *rest)))


def words_of(error: Mapping[str, Any]) -> str:
    """A sentence about one of pydantic's errors, with the name of its field."""
    field = field_of(error) or "The body"
    kind, limits = str(error["type"]), error.get("ctx") or {}
    if kind == "missing":
        return f"{field} is missing."
    if kind == "extra_forbidden":
        return f"{field} is not known here."
    if kind == "value_error":
        said = str(limits.get("error") or error["msg"]).removeprefix("Value error, ")
        return f"{field}: {said.rstrip('.')}."
    if said := _limit(kind, limits) or _kind(kind, limits):
        return f"{field} {said}."
    return f"{field}: {error['msg']}."


def _limit(kind: str, limits: Mapping[str, Any]) -> str:
    """Too long, too short, too large, too small."""
    counted = "characters" if kind.startswith("string") else "items"
    if kind.endswith("too_long"):
        return f"takes at most {_number(limits['max_length'])} {counted}"
    if kind.endswith("too_short"):
        least = limits["min_length"]
        return "must not be empty" if least == 1 else f"takes at least {_number(least)} {counted}"
    for name, words in (
        ("ge", "has to be at least"),
        ("gt", "has to be more than"),
        ("le", "has to be at most"),
        ("lt", "has to be less than"),
    ):
        if name in limits:
            return f"{words} {_number(limits[name])}"
    return ""


def _kind(kind: str, limits: Mapping[str, Any]) -> str:
    """Something else than was expected."""
    if "expected" in limits and kind in ("literal_error", "enum"):
        return f"has to be {limits['expected']}"
    if kind in ("string_unicode", "int_parsing_size"):
        return "holds what cannot be read"
    if kind == "finite_number":
        return "has to be a number with an end"
    wanted = _KINDS.get(kind.partition("_")[0])
    return f"has to be {wanted}" if wanted else ""


def _number(value: object) -> str:
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
