"""`${VAR}` and its relatives, as Claude Code, Cursor and VS Code write them."""

import re
from collections.abc import Mapping
from pathlib import Path

from core.redaction import NAMES

_VARIABLE = re.compile(r"\$\{(?P<name>[^${}:]*)(?::(?P<rest>[^}]*))?\}")
_SECRET = re.compile(
    r"TOKEN|KEY|SECRET|PASSW|CREDENTIAL|AUTH|COOKIE|PRIVATE|DATABASE_URL|DSN", re.IGNORECASE
)
# What belongs to LM Desk goes to nobody.
_OURS = "LMDESK_"


class Expansion:
    """Fills variables in, and remembers what could not be filled."""

    def __init__(
        self, environment: Mapping[str, str], *, workspace: Path | None, home: Path
    ) -> None:
        self._environment = environment
        self._folders = {"userHome": str(home), "pathSeparator": "/", "/": "/"}
        if workspace is not None:
            self._folders["workspaceFolder"] = str(workspace)
            self._folders["workspaceFolderBasename"] = workspace.name
        self.missing: dict[str, None] = {}
        self.asked: dict[str, None] = {}
        """Values VS Code asks a person for."""

    def fill(self, text: str) -> str:
        """Every variable replaced; one that nobody set stays as it is."""
        return _VARIABLE.sub(lambda found: self._value(found, secrets=True), text)

    def show(self, text: str) -> str:
        """The same with the values of what is named like a secret left out."""
        return _VARIABLE.sub(lambda found: self._value(found, secrets=False), text)

    def _value(self, found: re.Match[str], *, secrets: bool) -> str:
        name, rest = found["name"], found["rest"]
        if rest is None and name in self._folders:
            return self._folders[name]
        if name == "input" and rest:
            self.asked[rest] = None
            return found[0]
        default = None
        if name == "env" and rest:
            name = rest
        elif rest is not None and rest.startswith("-"):
            default = rest[1:]
        elif rest is not None:
            self.missing[f"{name}:{rest}"] = None
            return found[0]
        value = None if name.upper().startswith(_OURS) else self._environment.get(name)
        if value is None:
            value = default
        if value is None:
            self.missing[name] = None
            return found[0]
        hidden = not secrets and (_SECRET.search(name) or name.lower() in NAMES)
        return found[0] if hidden else value
