"""What is wrong with a setting, in one sentence: which key, where it stands, its value, the fix."""

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from api.settings import BadSetting, Contradiction, Keys, Settings
from api.settings_parts import FallbackEntry, ModelsEntry, ProviderEntry, RunsEntry, ToolsEntry
from api.settings_values import Source, dotted
from core.preferences import TASKS

NAMES_SHOWN = 40
PASSWORD_IN_URL = re.compile(r"//[^/@\s]*@")


def in_words(error: ValidationError, sources: Sequence[Source]) -> BadSetting:
    """From pydantic's first complaint."""
    first = error.errors()[0]
    keys = tuple(key for key in first["loc"] if key != "[key]")
    if first["type"] == "extra_forbidden" or "[key]" in first["loc"]:
        return unknown_key(keys, _source_of(keys, sources))
    reason = _lower(first["msg"].removeprefix("Value error, ").rstrip("."))
    source = _source_of(keys, sources)
    name = source.spells(keys) if source else f"The default of '{dotted(keys)}'"
    return BadSetting(
        _sentence(name, _shown(first, keys), reason + _line(source, keys)),
        hint=f"It should be {_described(keys)}.",
        keys=keys,
    )


def contradiction(error: Contradiction, sources: Sequence[Source]) -> BadSetting:
    """From our own complaint about values that do not go together."""
    source = _source_of(error.keys, sources)
    name = source.spells(error.keys) if source else f"'{dotted(error.keys)}'"
    reason = error.message + _line(source, error.keys)
    return BadSetting(_sentence(name, "", reason), hint=error.hint, keys=error.keys)


def unknown_key(keys: Keys, source: Source | None) -> BadSetting:
    """A key there is no setting for, with the nearest one."""
    spells: Callable[[Keys], str] = source.spells if source else dotted
    known = tuple(siblings(keys))
    last = str(keys[-1])
    near = get_close_matches(last.lower(), known, n=1)
    if near and source is not None and source.origin in ("environment", ".env"):
        hint = f"Did you mean {source.spells((*keys[:-1], near[0])).split(' ')[0]}?"
    elif near:
        hint = f"Did you mean {near[0]}?"
    else:
        what = f"under '{dotted(keys[:-1])}' " if len(keys) > 1 else ""
        hint = f"The settings {what}are: {', '.join(known[:NAMES_SHOWN])}."
    place = "the environment variable " if source and source.origin == "environment" else ""
    message = f"There is no setting {place}{spells(keys)}{_line(source, keys)}."
    return BadSetting(message, hint=hint, keys=keys)


def siblings(keys: Keys) -> Iterable[str]:
    """What could stand in the place of this key."""
    if keys[:2] == ("models", "preferences") and len(keys) > 2:
        return TASKS
    holder = _holder(keys)
    return holder.model_fields if holder is not None else ()


def is_secret(keys: Keys) -> bool:
    """Whether the value may never be shown."""
    names = [key for key in keys if isinstance(key, str)]
    # A provider that is no mapping may be a token in the wrong place.
    whole = names[:1] == ["providers"] and len(names) < 3
    return whole or names[-1:] == ["token"] or names[-1:][0].endswith("_token")


def _holder(keys: Keys) -> type[BaseModel] | None:
    if len(keys) == 1:
        return Settings
    inner: dict[Any, type[BaseModel]] = {
        "models": ModelsEntry,
        "fallback": FallbackEntry,
        "tools": ToolsEntry,
        "runs": RunsEntry,
    }
    if keys[0] == "providers":
        return ProviderEntry if len(keys) > 2 else None
    return inner.get(keys[0])


def _described(keys: Keys) -> str:
    if keys[0] == "providers" and len(keys) == 2:
        return "a name with settings under it: " + ", ".join(ProviderEntry.model_fields)
    if keys[:2] == ("models", "preferences"):
        return "names of models, best first"
    names = tuple(key for key in keys if isinstance(key, str))
    holder = _holder(names)
    field = holder.model_fields.get(str(names[-1])) if holder is not None else None
    return (field.description if field else None) or "something else"


def _shown(error: ErrorDetails, keys: Keys) -> str:
    if is_secret(keys):
        return ""
    return f" is {PASSWORD_IN_URL.sub('//…@', repr(error['input']))}"


def _sentence(name: str, shown: str, reason: str) -> str:
    return f"{name}{shown}: {reason}." if shown else f"{name} cannot be used: {reason}."


def _line(source: Source | None, keys: Keys) -> str:
    line = source.line(keys) if source else None
    return f" (line {line})" if line is not None else ""


def _source_of(keys: Keys, sources: Sequence[Source]) -> Source | None:
    return next((source for source in sources if source.has(keys)), None)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
