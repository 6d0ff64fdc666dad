"""The settings as they are shown: without secrets, with where each comes from."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr

from api.configuration import RUNTIME, Configuration
from api.settings import LMSTUDIO, Settings
from api.settings_parts import FallbackEntry, ModelsEntry, ProviderEntry, RunsEntry, ToolsEntry
from api.settings_values import dotted
from api.settings_words import is_secret
from core.configured import (
    Address,
    Configured,
    FileProblem,
    ProviderSetting,
    SecretState,
    SettingView,
)
from core.models import ProviderHealth
from core.preferences import TASKS
from core.version import VERSION

# These count when the desk starts, whenever they are changed.
AT_START = frozenset({"on_start"})


def configured(configuration: Configuration, healths: Sequence[ProviderHealth]) -> Configured:
    """All of them."""
    problem = configuration.problem
    return Configured(
        settings=tuple(_setting(configuration, keys) for keys in _all_keys()),
        providers=_providers(configuration, {health.provider: health for health in healths}),
        file=str(configuration.file.path.absolute()),
        file_exists=configuration.file.path.is_file(),
        file_problem=FileProblem(message=problem.message, hint=problem.hint) if problem else None,
        revision=configuration.file.revision,
        version=VERSION,
    )


def _all_keys() -> list[tuple[str, ...]]:
    inner: dict[str, list[tuple[str, ...]]] = {
        "models": [
            ("models", "default"),
            *(("models", "preferences", task) for task in TASKS),
        ],
        "fallback": [("fallback", "remote")],
        "tools": [("tools", key) for key in ToolsEntry.model_fields],
        "runs": [("runs", key) for key in RunsEntry.model_fields],
        "providers": [],
    }
    return [keys for key in Settings.model_fields for keys in inner.get(key, [(key,)])]


def _setting(configuration: Configuration, keys: tuple[str, ...]) -> SettingView:
    origin, place = configuration.sources.origin(keys)
    reason = configuration.lock_of(keys)
    secret = is_secret(keys)
    return SettingView(
        key=dotted(keys),
        value=_shown(configuration.configured, keys, secret=secret),
        secret=secret,
        origin=origin,
        place="" if origin == "default" else place,
        description=_description(keys),
        applies="now" if keys[0] in RUNTIME and keys[0] not in AT_START else "start",
        changeable=not reason,
        reason=reason,
        waiting=configuration.waits(keys[0]),
    )


def _shown(settings: Settings, keys: tuple[str, ...], *, secret: bool) -> Any:
    value: Any = settings
    for key in keys:
        value = value.get(key, ()) if isinstance(value, Mapping) else getattr(value, key)
    if secret:
        return _state(value)
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _state(token: SecretStr | None) -> SecretState:
    return "not set" if token is None else "set"


def _description(keys: tuple[str, ...]) -> str:
    if keys[0] == "models" and len(keys) > 2:
        return f"models for {keys[2]}: names or patterns, best first"
    holders: dict[str, type[BaseModel]] = {
        "models": ModelsEntry,
        "fallback": FallbackEntry,
        "tools": ToolsEntry,
        "runs": RunsEntry,
    }
    return holders.get(keys[0], Settings).model_fields[keys[-1]].description or ""


def _providers(
    configuration: Configuration, healths: Mapping[str, ProviderHealth]
) -> tuple[ProviderSetting, ...]:
    entries = configuration.configured.entries()
    return tuple(_provider(configuration, name, e, healths) for name, e in entries.items())


def _provider(
    configuration: Configuration,
    name: str,
    entry: ProviderEntry,
    healths: Mapping[str, ProviderHealth],
) -> ProviderSetting:
    configs = entry.configs(name)
    locked = {
        key: reason
        for key in ProviderEntry.model_fields
        if (reason := configuration.lock_of(("providers", name, key)))
    }
    return ProviderSetting(
        name=name,
        kind=configs[0].kind,
        enabled=entry.enabled,
        base_url=entry.base_url,
        base_urls=entry.base_urls,
        token=_state(entry.token),
        timeout=entry.timeout,
        retry_attempts=entry.retry_attempts,
        parallel=entry.parallel,
        remote=entry.remote,
        addresses=tuple(
            Address(
                provider=config.name,
                url=config.base_url,
                remote=config.remote,
                health=healths.get(config.name) if entry.enabled else None,
            )
            for config in configs
        ),
        locked=locked,
        removable=not locked and name != LMSTUDIO,
    )
