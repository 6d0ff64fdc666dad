"""Where settings come from: arguments > environment > .env > lmdesk.yaml > defaults."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from platformdirs import user_config_path
from pydantic import ValidationError

from api.config_file import read_config
from api.settings import LMSTUDIO, PREFIX, BadSetting, Contradiction, Keys, Settings
from api.settings_values import (
    NESTED,
    Origin,
    Source,
    as_given,
    dashed,
    dotted,
    from_variables,
    merged,
    shouted,
)
from api.settings_words import contradiction, in_words, unknown_key

CONFIG_NAME = "lmdesk.yaml"
# Names with our prefix that are not settings: which file to read, what docker-compose.yml is told,
# and what the tests are told.
NOT_SETTINGS = (f"{PREFIX}CONFIG", f"{PREFIX}PUBLISH_", f"{PREFIX}TEST_")
# The short way to say the same.
SHORT: dict[Keys, str] = {
    ("providers", LMSTUDIO, "base_url"): "lmstudio_url",
    ("providers", LMSTUDIO, "token"): "lmstudio_token",
}


@dataclass(frozen=True, slots=True)
class SettingsSources:
    """All places settings are written in, as they were when they were read."""

    arguments: Source
    environment: Source
    dotenv: Source
    file: Source
    defaults: Source
    path: Path | None
    """The lmdesk.yaml that was read; None if there is none yet."""

    @property
    def ranked(self) -> tuple[Source, ...]:
        """The strongest first."""
        return (self.arguments, self.environment, self.dotenv, self.file, self.defaults)

    def settings(self) -> Settings:
        """All of them together. Raises BadSetting."""
        values: dict[str, Any] = {}
        for source in reversed(self.ranked):
            values = merged(values, _with_lmstudio(source.values))
        try:
            return Settings(**values)
        except ValidationError as error:
            raise in_words(error, self.ranked) from error
        except Contradiction as error:
            raise contradiction(error, self.ranked) from error

    def origin(self, keys: Keys) -> tuple[Origin, str]:
        """Where the value of this key comes from, and what it is called there."""
        short = SHORT.get(keys)
        for source in self.ranked:
            for asked in (keys, (short,) if short else keys):
                if source.has(asked):
                    return source.origin, source.spells(asked)
        return "default", dotted(keys)

    def with_file(self, path: Path | None, file: Source) -> "SettingsSources":
        """The same with another content of the file."""
        return replace(self, path=path, file=file)


def load_settings(
    arguments: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """All sources together; None in `arguments` is "not given". Raises BadSetting."""
    return read_sources(arguments, config=config, defaults=defaults).settings()


def read_sources(
    arguments: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> SettingsSources:
    """What every place says. Raises BadSetting for what cannot be read, and for unknown keys."""
    given = {key: value for key, value in (arguments or {}).items() if value is not None}
    environment, dotenv = _environment(), _dotenv(Path(".env"))
    before = merged(merged(dotenv.values, environment.values), given)
    path = config_file(config, data_dir=before.get("data_dir"))
    return SettingsSources(
        arguments=Source("argument", given, dashed),
        environment=environment,
        dotenv=dotenv,
        file=read_config(path) if path is not None else Source("file", {}, dotted),
        defaults=Source("default", defaults or {}, dotted),
        path=path,
    )


def given_settings(settings: Settings) -> SettingsSources:
    """The sources of settings that a caller made itself: what it gave counts as arguments."""
    values = settings.model_dump(include=settings.model_fields_set, exclude_unset=True)
    nothing = Source("default", {}, dotted)
    path = settings.data_dir / CONFIG_NAME
    return SettingsSources(
        arguments=Source("argument", values, dashed),
        environment=nothing,
        dotenv=nothing,
        file=read_config(path) if path.is_file() else Source("file", {}, dotted),
        defaults=nothing,
        path=path if path.is_file() else None,
    )


def config_file(asked: Path | None, *, data_dir: str | Path | None = None) -> Path | None:
    """The one lmdesk.yaml that counts, or None. Raises BadSetting for a file asked for and absent."""
    named = asked or os.environ.get(f"{PREFIX}CONFIG")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            source = "--config" if asked else f"{PREFIX}CONFIG"
            raise BadSetting(f"{source} names {path}, and there is no such file.")
        return path
    folder = Path(data_dir).expanduser() if data_dir else Settings().data_dir
    candidates = (
        Path(CONFIG_NAME),
        user_config_path("lmdesk", appauthor=False) / CONFIG_NAME,
        folder / CONFIG_NAME,  # where the page makes one if there is none
    )
    return next((path for path in candidates if path.is_file()), None)


def _environment() -> Source:
    # Empty is unset: a compose file passes `LMDESK_TOKEN=` for a variable nobody set.
    return _variables("environment", os.environ.items(), "")


def _dotenv(path: Path) -> Source:
    if not path.is_file():
        return Source(".env", {}, shouted)
    try:
        read = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} cannot be read: {error}.") from error
    return _variables(".env", read.items(), f" in {path}")


def _variables(origin: Origin, variables: Iterable[tuple[str, str | None]], place: str) -> Source:
    """The settings among these variables; a misspelt one would otherwise be without effect."""
    given: dict[str, str] = {}
    source = Source(origin, {}, lambda keys: as_given(given, keys) + place)
    for name, text in variables:
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper.startswith(NOT_SETTINGS):
            continue
        small = upper.removeprefix(PREFIX).lower()
        head, *rest = small.split("__")
        if head not in Settings.model_fields or (rest and head not in NESTED):
            raise unknown_key((small,), source)
        if text:
            given[small] = text
    return replace(source, values=from_variables(given.items()))


def _with_lmstudio(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its short settings as those of the provider, so that the stronger place wins either way."""
    said = {str(keys[2]): values[short] for keys, short in SHORT.items() if values.get(short)}
    providers = values.get("providers") or {}
    if not said or not isinstance(providers, Mapping):
        return values
    entry = providers.get(LMSTUDIO) or {}
    if not isinstance(entry, Mapping):
        return values
    return {**values, "providers": {**providers, LMSTUDIO: merged(said, entry)}}
