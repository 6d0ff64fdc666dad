"""What a person chose about tool servers, in a file of our own beside those of others."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from core.errors import StorageError
from core.tool_entries import ServerChoices
from infrastructure.tools.files import write_json

_CHOICES = TypeAdapter(dict[str, ServerChoices])
VERSION = 1


class ChoiceFile:
    """`tool-servers.json`: trust, switches, ways of asking, timeouts, inherited variables."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature: tuple[int, int, int] | None = None
        self._choices: dict[str, ServerChoices] = {}

    async def load(self) -> dict[str, ServerChoices]:
        """By name; read anew where the file changed. Raises StorageError where it is broken."""
        return await asyncio.to_thread(self._load)

    async def save(self, choices: Mapping[str, ServerChoices]) -> None:
        """Raises StorageError."""
        await asyncio.to_thread(self._save, dict(choices))

    def _load(self) -> dict[str, ServerChoices]:
        signature = self._sign()
        if signature is None:
            return {}
        if signature != self._signature:
            self._choices = self._read()
            self._signature = signature
        return self._choices

    def _read(self) -> dict[str, ServerChoices]:
        hint = "Correct it, or delete it: then every server is asked about again."
        try:
            whole: Any = json.loads(self._path.read_text(encoding="utf-8"))
            return _CHOICES.validate_python(whole.get("servers", {}) if whole else {})
        except json.JSONDecodeError as error:
            raise StorageError(
                f"{self._path} is not valid JSON: {error.msg}, line {error.lineno}.", hint=hint
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise StorageError(
                f"{self._path} cannot be used: servers.{where}: {first['msg']}.", hint=hint
            ) from error
        except (OSError, UnicodeDecodeError, AttributeError) as error:
            raise StorageError(f"{self._path} cannot be read.", hint=hint) from error

    def _save(self, choices: dict[str, ServerChoices]) -> None:
        servers = _CHOICES.dump_python(choices, mode="json", exclude_defaults=True)
        write_json(self._path, {"version": VERSION, "servers": servers})
        self._choices, self._signature = choices, self._sign()

    def _sign(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
