"""One server as some program's file has it, read into our words."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import SecretStr

from core.tool_entries import ServerEntry, decides_on_code
from core.visible import visible
from infrastructure.tools.addresses import url_problem
from infrastructure.tools.places import workspace_of
from infrastructure.tools.variables import Expansion

_HTTP_TYPES = ("http", "streamable-http", "streamablehttp", "streamable_http")
_MAX_TEXT = 100_000


class BadEntry(Exception):
    """It cannot be used. `key` says which part, empty for the whole."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.key = key


def read_entry(
    name: str, raw: object, file: Path, environment: Mapping[str, str]
) -> tuple[ServerEntry, BadEntry | None]:
    """The entry, with its problem where it has one."""
    try:
        return _read(name, raw, file, environment), None
    except BadEntry as error:
        where = f"{error.key}: " if error.key else ""
        problem = f"{where}{error.message}"
        return ServerEntry(name=name, source=str(file), shown="", problem=problem), error


def _read(name: str, raw: object, file: Path, environment: Mapping[str, str]) -> ServerEntry:
    if not isinstance(raw, dict):
        raise BadEntry("it has to be an object with a command or a url.")
    expansion = Expansion(environment, workspace=workspace_of(file), home=Path.home())
    common: dict[str, Any] = {"name": name, "source": str(file), "off": _is_off(raw)}
    if _is_remote(raw):
        entry = ServerEntry(**common, **_remote(raw, expansion))
    else:
        entry = ServerEntry(**common, **_local(raw, expansion, file))
    if expansion.asked:
        asked = ", ".join(f"${{input:{each}}}" for each in expansion.asked)
        raise BadEntry(
            f"it has {asked}, which VS Code asks a person for; write the value, "
            "or ${env:NAME}, in an entry of LM Desk's own mcp.json."
        )
    return entry.model_copy(update={"missing": tuple(expansion.missing)})


def _is_off(raw: dict[str, Any]) -> bool:
    return raw.get("disabled") is True or raw.get("enabled") is False


def _is_remote(raw: dict[str, Any]) -> bool:
    kind = raw.get("type", raw.get("transport"))
    if isinstance(kind, str) and kind.lower() == "sse":
        raise BadEntry(
            "the old SSE transport is not spoken here; ask the server for streamable HTTP.", "type"
        )
    if isinstance(kind, str) and kind.lower() in _HTTP_TYPES:
        return True
    if kind is not None and kind != "stdio":
        raise BadEntry(f"{kind!r} is not stdio or http.", "type")
    if kind is None and "command" not in raw and "url" not in raw and "serverUrl" not in raw:
        raise BadEntry("it has neither a command nor a url.")
    return kind is None and "command" not in raw


def _remote(raw: dict[str, Any], expansion: Expansion) -> dict[str, Any]:
    key = "url" if "url" in raw else "serverUrl"
    written = _text(raw, key)
    url = expansion.fill(written)
    allow_private = raw.get("allow_private", False)
    if not isinstance(allow_private, bool):
        raise BadEntry("it is true or false.", "allow_private")
    if problem := url_problem(url, allow_private=allow_private):
        raise BadEntry(problem, key)
    return {
        "transport": "http",
        "url": url,
        "headers": _secrets(raw, "headers", expansion),
        **_client(raw, expansion),
        "allow_private": allow_private,
        "shown": visible(expansion.show(written)),
        "line": visible(expansion.show(written)),
    }


def _client(raw: dict[str, Any], expansion: Expansion) -> dict[str, Any]:
    """Who we are where the server signs people in, in the spellings there are."""
    key = next((name for name in ("oauth", "auth") if isinstance(raw.get(name), dict)), None)
    if key is None:
        return {}
    plain = {name.replace("_", "").lower(): name for name in raw[key]}
    if "clientid" not in plain:
        return {}
    values = {
        field: expansion.fill(_text(raw[key], plain[name]))
        for field, name in (("client_id", "clientid"), ("client_secret", "clientsecret"))
        if name in plain
    }
    if any(not value.isprintable() for value in values.values()):
        raise BadEntry("that cannot be passed on.", key)
    return values


def _local(raw: dict[str, Any], expansion: Expansion, file: Path) -> dict[str, Any]:
    command, args = _text(raw, "command"), raw.get("args", [])
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise BadEntry("it has to be a list of texts.", "args")
    env = {**_env_file(raw, expansion, file), **_secrets(raw, "env", expansion)}
    cwd = _text(raw, "cwd") if raw.get("cwd") is not None else None
    words = [expansion.show(word) for word in (command, *args)]
    code = [
        f"{name}={shlex.quote(value.get_secret_value())}"
        for name, value in sorted(env.items())
        if decides_on_code(name)
    ]
    started = [expansion.fill(word) for word in (command, *args)]
    folder = None if cwd is None else str(_beside(file, expansion.fill(cwd)))
    if "\0" in "".join([*started, folder or ""]):
        raise BadEntry("it holds a NUL character.", "command")
    return {
        "command": started[0],
        "args": tuple(started[1:]),
        "cwd": folder,
        "env": env,
        "shown": visible(" ".join([*code, shlex.join(words)])),
        "line": visible(shlex.join(words)),
    }


def _beside(file: Path, path: str) -> Path:
    return (workspace_of(file) or file.parent) / Path(path).expanduser()


def env_file_of(raw: object, file: Path, environment: Mapping[str, str]) -> Path | None:
    """The file with variables that an entry names; None where it names none."""
    if not isinstance(raw, dict) or not isinstance(raw.get("envFile"), str):
        return None
    expansion = Expansion(environment, workspace=workspace_of(file), home=Path.home())
    return _beside(file, expansion.fill(raw["envFile"]))


def _env_file(raw: dict[str, Any], expansion: Expansion, file: Path) -> dict[str, SecretStr]:
    if raw.get("envFile") is None:
        return {}
    path = _beside(file, expansion.fill(_text(raw, "envFile")))
    try:
        values = dotenv_values(path, interpolate=False) if path.is_file() else None
    except (OSError, UnicodeDecodeError):
        values = None
    if values is None:
        raise BadEntry(f"{path} cannot be read.", "envFile")
    return {name: SecretStr(value) for name, value in values.items() if value is not None}


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_TEXT:
        raise BadEntry("it has to be a text.", key)
    return value


def _secrets(raw: dict[str, Any], key: str, expansion: Expansion) -> dict[str, SecretStr]:
    values = raw.get(key)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadEntry("it has to be an object of names and texts.", key)
    found = {}
    for name, value in values.items():
        if not isinstance(value, str | int | float):
            raise BadEntry("it has to be a text.", f"{key}.{name}")
        text = expansion.fill(str(value).lower() if isinstance(value, bool) else str(value))
        if "\0" in name + text or "=" in name or not name:
            raise BadEntry("that cannot be passed on.", f"{key}.{name}")
        if key == "headers" and ("\n" in text or "\r" in text):
            raise BadEntry("a header is one line.", f"{key}.{name}")
        found[name] = SecretStr(text)
    return found
