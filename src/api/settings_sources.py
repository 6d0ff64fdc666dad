"""Where settings come from: arguments > environment > .env > lmdesk.yaml > defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values
from platformdirs import user_config_path
from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from api.settings import PREFIX, BadSetting, Settings

CONFIG_NAME = "lmdesk.yaml"
# Names with our prefix that are not settings: which file to read, what docker-compose.yml is told,
# and what the tests are told.
NOT_SETTINGS = (f"{PREFIX}CONFIG", f"{PREFIX}PUBLISH_", f"{PREFIX}TEST_")


@dataclass(frozen=True, slots=True)
class _Source:
    values: Mapping[str, Any]
    names: str
    """How this source spells a key, with a place for it."""

    def spells(self, key: str) -> str:
        return self.names.format(key=key, KEY=key.upper(), flag=key.replace("_", "-"))


def load_settings(
    arguments: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """All sources together; None in `arguments` is "not given". Raises BadSetting."""
    given = {key: value for key, value in (arguments or {}).items() if value is not None}
    sources = [
        _Source(given, "--{flag}"),
        _environment(),
        _dotenv(Path(".env")),
        _yaml(config_file(config)),
        _Source(defaults or {}, "{key}"),
    ]
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        merged.update(source.values)
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise _in_words(error.errors()[0], sources) from error


def config_file(asked: Path | None) -> Path | None:
    """The one lmdesk.yaml that counts, or None. Raises BadSetting for a file asked for and absent."""
    named = asked or os.environ.get(f"{PREFIX}CONFIG")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            source = "--config" if asked else f"{PREFIX}CONFIG"
            raise BadSetting(f"{source} names {path}, and there is no such file.")
        return path
    candidates = (Path(CONFIG_NAME), user_config_path("lmdesk", appauthor=False) / CONFIG_NAME)
    return next((path for path in candidates if path.is_file()), None)


def _environment() -> _Source:
    _refuse_unknown(os.environ, "the environment variable {name}")
    # Empty is unset: a compose file passes `LMDESK_TOKEN=` for a variable nobody set.
    return _Source(EnvSettingsSource(Settings, env_ignore_empty=True)(), f"{PREFIX}{{KEY}}")


def _dotenv(path: Path) -> _Source:
    if not path.is_file():
        return _Source({}, "")
    try:
        read = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} cannot be read: {error}.") from error
    _refuse_unknown(read, f"{{name}} in {path}")
    values = {
        name.upper().removeprefix(PREFIX).lower(): value
        for name, value in read.items()
        if value and name.upper().startswith(PREFIX) and not name.upper().startswith(NOT_SETTINGS)
    }
    return _Source(values, f"{PREFIX}{{KEY}} in {path}")


def _yaml(path: Path | None) -> _Source:
    if path is None:
        return _Source({}, "")
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise BadSetting(f"{path}{where} is not valid YAML.") from error
    values = read if read is not None else {}
    if not isinstance(values, dict):
        raise BadSetting(f"{path} must hold lines of `key: value`.")
    for key in values:
        if key not in Settings.model_fields:
            raise _unknown(f"'{key}' in {path}", str(key))
    return _Source(values, f"'{{key}}' in {path}")


def _refuse_unknown(names: Mapping[str, object], place: str) -> None:
    """A misspelt variable would otherwise be silently without effect."""
    for name in names:
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper.startswith(NOT_SETTINGS):
            continue
        key = upper.removeprefix(PREFIX).lower()
        if key not in Settings.model_fields:
            raise _unknown(place.format(name=name), key, spelled=lambda k: f"{PREFIX}{k.upper()}")


def _unknown(what: str, key: str, *, spelled: Any = str) -> BadSetting:
    near = get_close_matches(key, Settings.model_fields, n=1)
    hint = (
        f"Did you mean {spelled(near[0])}?"
        if near
        else "The settings are: " + ", ".join(Settings.model_fields) + "."
    )
    return BadSetting(f"There is no setting {what}.", hint=hint)


def _in_words(error: ErrorDetails, sources: list[_Source]) -> BadSetting:
    """One sentence from pydantic's first complaint: which key, where it stands, its value, the fix."""
    key = str(error["loc"][0])
    field = Settings.model_fields.get(key)
    if field is None:
        return _unknown(f"'{key}'", key)
    source = next((source for source in sources if key in source.values), None)
    name = source.spells(key) if source else f"The default of '{key}'"
    secret = SecretStr in getattr(field.annotation, "__args__", (field.annotation,))
    shown = "" if secret else f" is {error['input']!r}"
    reason = error["msg"].removeprefix("Value error, ").rstrip(".")
    reason = reason[0].lower() + reason[1:]
    joined = f"{name}{shown}: {reason}." if shown else f"{name} cannot be used: {reason}."
    return BadSetting(joined, hint=f"It should be {field.description}.")
