"""One place settings are written in: its values, and how it spells a key to a person."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from api.settings import PREFIX, BadSetting, Keys

# Where a value comes from, the strongest first.
Origin = Literal["argument", "environment", ".env", "file", "default"]
# What holds further settings, and so is spelled with __ between in the environment.
NESTED = ("providers", "models", "fallback", "tools", "runs")


@dataclass(frozen=True, slots=True)
class Source:
    """The values of one place."""

    origin: Origin
    values: Mapping[str, Any]
    spells: Callable[[Keys], str]
    """What the key is called there, such as `LMDESK_PORT` or `'port' in lmdesk.yaml`."""
    line: Callable[[Keys], int | None] = lambda keys: None
    """The line it stands in, from 1, where there are lines."""

    def has(self, keys: Keys) -> bool:
        """Whether this place says anything about the key, or about what it is part of."""
        value: Any = self.values
        for key in keys:
            if isinstance(value, Mapping):
                found = _same(value, str(key))
                if found is None:
                    return False
                value = value[found]
            else:
                return True
        return True


def dashed(keys: Keys) -> str:
    """As an argument of the command line."""
    return "--" + "-".join(str(key) for key in keys).replace("_", "-")


def shouted(keys: Keys) -> str:
    """As an environment variable."""
    named = [str(key) for key in keys if isinstance(key, str)]
    return PREFIX + "__".join(named).replace("-", "_").upper()


def as_given(names: Collection[str], keys: Keys) -> str:
    """The same, where the variables of these small names are set: a key may stand inside of one."""
    parts = [str(key) for key in keys if isinstance(key, str)]
    plain = [part.replace("-", "_").lower() for part in parts]
    for count in range(len(parts), 0, -1):
        if "__".join(plain[:count]) in names:
            inside = ".".join(parts[count:])
            variable = shouted(tuple(parts[:count]))
            return f"'{inside}' in {variable}" if inside else variable
    return shouted(keys)


def dotted(keys: Keys) -> str:
    """As it is called in a file: `providers.work.timeout`."""
    return ".".join(str(key) for key in keys if isinstance(key, str))


def in_file(path: Path) -> Callable[[Keys], str]:
    """Spells keys of this lmdesk.yaml."""
    return lambda keys: f"'{dotted(keys)}' in {path}"


def from_variables(given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The values of these variables, whose names are without their prefix and small.

    `__` goes into what holds further settings; a text in braces or brackets there is JSON. Raises
    BadSetting for JSON that is none, without showing it.
    """
    values: dict[str, Any] = {}
    for name, text in sorted(given):  # the whole before its parts, which add to it
        head, *rest = name.split("__")
        if head not in NESTED:
            values[name] = text
            continue
        keys = (head, *rest)
        inner = values
        for key in keys[:-1]:
            held = inner.setdefault(_same(inner, key) or key, {})
            if not isinstance(held, dict):
                raise BadSetting(f"{shouted(keys)} and {shouted(keys[:-1])} contradict each other.")
            inner = held
        inner[_same(inner, keys[-1]) or keys[-1]] = _read(text, keys)
    return values


def _read(text: str, keys: Keys) -> Any:
    if not re.match(r"\s*[\[{]", text):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadSetting(
            f"{shouted(keys)} is not valid JSON: line {error.lineno}, column {error.colno}.",
            hint='Names and texts stand in "double quotes", and nothing follows the last entry.',
            keys=keys,
        ) from error


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, entry by entry, deep where both have a mapping; `over` wins.

    A variable cannot spell every name, so `MY_BOX` adds to a provider called `my-box`.
    """
    # One address or several: whoever speaks last says which.
    other = {"base_url": "base_urls", "base_urls": "base_url"}
    replaced = {other[key] for key in over if key in other}
    result = {key: value for key, value in under.items() if key not in replaced}
    for key, value in over.items():
        name = _same(result, key) or key
        before = result.get(name)
        if before is None or not isinstance(value, Mapping):
            result[name] = value
        elif isinstance(before, Mapping):
            result[name] = merged(before, value)
        # Else what is there cannot be right, and is left for the check to find.
    return result


def _same(mapping: Mapping[str, Any], key: str) -> str | None:
    """The entry meant by this key."""
    if key in mapping:
        return key
    plain = key.casefold().replace("-", "_")
    return next((k for k in mapping if k.casefold().replace("-", "_") == plain), None)
