"""From what a caller sends to changes of single keys."""

from collections.abc import Iterator, Mapping
from typing import Any

from api.config_edit import REMOVED, Change
from api.configuration import Configuration, UnusableSetting
from api.settings import LMSTUDIO
from api.settings_parts import NAME, ProviderEntry
from api.settings_sources import SHORT
from api.settings_values import NESTED
from core.errors import Conflict, ProviderNotFound

MAX_CHANGES = 200
MAX_DEPTH = 4


class NotRemovable(Conflict):
    """There is nothing in the file that could go."""

    code = "provider_not_removable"


def from_patch(configuration: Configuration, patch: Mapping[str, Any]) -> list[Change]:
    """A merge patch (RFC 7396): what is left out stays, null goes back to the default."""
    changes = list(_flat(configuration, (), patch))
    if not changes or len(changes) > MAX_CHANGES:
        raise UnusableSetting(
            f"A change names 1 to {MAX_CHANGES} settings.",
            hint='Send {"log_level": "debug"}, for example.',
        )
    return changes


def _flat(configuration: Configuration, keys: tuple[str, ...], value: object) -> Iterator[Change]:
    if len(keys) > MAX_DEPTH:
        raise UnusableSetting("No setting lies so deep.", hint="See /docs for what there is.")
    if isinstance(value, Mapping) and (not keys or keys[0] in NESTED):
        for key, inner in value.items():
            if keys == ("providers",) and inner is not None:
                key = existing_name(configuration, key) or key
            yield from _flat(configuration, (*keys, str(key)), inner)
        bare = not value and keys[:1] == ("providers",) and len(keys) == 2
        if bare and existing_name(configuration, keys[1]) is None:
            yield keys, {}
    elif value is None:
        yield keys, REMOVED
    else:
        yield keys, value


def from_entry(configuration: Configuration, name: str, entry: Mapping[str, Any]) -> list[Change]:
    """The whole of a provider: what is left out goes back to its default, but for the token."""
    if NAME.fullmatch(name) is None:
        raise UnusableSetting(
            "A provider's name has letters, digits, - and _, and no more than 40 of them.",
            hint="Give it another name.",
            parameter="name",
        )
    known = existing_name(configuration, name)
    name = known or name
    held = _in_file(configuration, name)
    changes: list[Change] = [
        (("providers", name, key), REMOVED)
        for key in held
        if key not in entry and key in ProviderEntry.model_fields and key != "token"
    ]
    current = _current(configuration, name)
    for key, value in entry.items():
        keys = _place(configuration, ("providers", name, key), held)
        written = key in held or len(keys) == 1
        if value is None:
            if written or configuration.lock_of(keys):
                changes.append((keys, REMOVED))
        # What is so already, by a default or a stronger place, is not written down.
        elif written or value != current.get(key):
            changes.append((keys, value))
    return changes if changes or known else [(("providers", name), {})]


def _current(configuration: Configuration, name: str) -> dict[str, Any]:
    """What is in effect for a provider, but for its token, as a caller would send it."""
    entry = configuration.configured.entries().get(name, ProviderEntry())
    shown = entry.model_dump(mode="json", exclude={"token"})
    return {**shown, "kind": entry.kind_for(name)}


def _place(
    configuration: Configuration, keys: tuple[str, ...], held: Mapping[str, Any]
) -> tuple[str, ...]:
    """Where the file says it: LM Studio's address may stand there in the short way."""
    short = SHORT.get(keys)
    in_file = short is not None and short in configuration.sources.file.values
    return (short,) if short is not None and in_file and keys[-1] not in held else keys


def without(configuration: Configuration, name: str) -> list[Change]:
    """The provider and every mention of it. Raises ProviderNotFound or NotRemovable."""
    found = existing_name(configuration, name)
    if found is None:
        names = ", ".join(configuration.configured.entries())
        raise ProviderNotFound(
            f"No provider is called '{name}'.", hint=f"The providers are: {names}."
        )
    if found not in _providers(configuration):
        raise NotRemovable(
            f"'{found}' is not in {configuration.file.path}.",
            hint="Switch it off instead."
            if found == LMSTUDIO
            else configuration.lock_of(("providers", found)),
        )
    changes: list[Change] = [(("providers", found), REMOVED)]
    remote = configuration.configured.fallback.remote
    left = [each for each in remote if each.casefold() != found.casefold()]
    if len(left) < len(remote):
        changes.append((("fallback", "remote"), left))
    return changes


def existing_name(configuration: Configuration, name: str) -> str | None:
    """How the provider is spelled that is meant by this name."""
    names = configuration.configured.entries()
    return next((each for each in names if each.casefold() == name.casefold()), None)


def _providers(configuration: Configuration) -> Mapping[str, Any]:
    providers = configuration.sources.file.values.get("providers")
    return providers if isinstance(providers, Mapping) else {}


def _in_file(configuration: Configuration, name: str) -> Mapping[str, Any]:
    entry = _providers(configuration).get(name)
    return entry if isinstance(entry, Mapping) else {}
