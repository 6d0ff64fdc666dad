"""Tool servers as they are written down: what starts them, and the hash a person says yes to."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import Field, SecretStr

from core.errors import BadParameter
from core.tools import ApprovalMode, Tool
from core.value import Value

Transport = Literal["stdio", "http"]

START_SECONDS = 60.0
MAX_START_SECONDS = 3600.0
MAX_CALL_SECONDS = 24 * 3600.0
MAX_INHERITED = 50
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# LM Desk's own settings hold tokens, so they are passed on to nobody.
_OURS = "LMDESK_"

# Variables whose value decides which code runs: with these the value counts, not only the name.
_CODE_VARIABLES = frozenset({"PATH", "BASH_ENV", "ENV", "SHELLOPTS", "IFS", "GCONV_PATH"})
_CODE_PREFIXES = (
    *("LD_", "DYLD_", "NODE_", "NPM_CONFIG_", "PYTHON", "PIP_", "UV_", "PERL5", "RUBY"),
    *("JAVA_TOOL", "JDK_JAVA", "GIT_", "DOCKER_", "DENO_", "BUN_"),
)


class ServerEntry(Value):
    """One server as a file names it, its variables filled in."""

    name: str
    named: str = ""
    """Its name in the file, where that does not fit into addresses and the names of tools."""
    source: str
    """The file."""
    transport: Transport = "stdio"
    command: str = ""
    args: tuple[str, ...] = ()
    program: str = ""
    """The file its command is at the moment, in full; empty where there is none."""
    leads_to: str = ""
    """The file in full that the program is a link to; empty where it is none."""
    cwd: str | None = None
    env: dict[str, SecretStr] = Field(default_factory=dict)
    url: str = ""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    client_id: str = ""
    """Who LM Desk is where the server signs people in; empty: it registers there by itself."""
    client_secret: SecretStr | None = None
    allow_private: bool = False
    """It may lie in a private network."""
    off: bool = False
    """The file says it is switched off."""
    shown: str = ""
    """The command line or address in full; a secret from a variable stands as `${NAME}`."""
    line: str = ""
    """The same without the variables that decide on code."""
    missing: tuple[str, ...] = ()
    """Variables it names that nobody set."""
    also_in: tuple[str, ...] = ()
    """Further files with a server of this name, which are not used."""
    problem: str = ""
    """Why it cannot be used; empty where it can."""

    @property
    def place(self) -> tuple[str, ...]:
        """Where its program lies, and where that leads; empty where it is not there."""
        return tuple(path for path in (self.program, self.leads_to) if path)

    def fingerprint(self, inherit_env: Iterable[str] = ()) -> str:
        """SHA-256 of what would be started, or reached; no secret of `env` or `headers` is in it."""
        if self.transport == "http":
            names = sorted(name.lower() for name in self.headers)
            client = [self.client_id] if self.client_id else []
            return _sha256(["http", self.url, names, self.allow_private, *client])
        # Its own: a variable of that name with a value of ours is another thing than one of the entry's.
        inherited = sorted(set(inherit_env))
        names = sorted({*self.env, *inherited})
        code = {
            name: value.get_secret_value()
            for name, value in sorted(self.env.items())
            if decides_on_code(name)
        }
        parts = ["stdio", self.command, list(self.args), self.cwd, names, code]
        return _sha256([*parts, inherited] if inherited else parts)


def same_place(before: Sequence[str], now: Sequence[str]) -> bool:
    """Whether both are one program: an upgrade where it lies changes no more than a version."""
    if not before or not now:
        return True  # nobody knows better, and what is not there is not started
    return [_VERSION.sub("*", path) for path in before] == [_VERSION.sub("*", path) for path in now]


def decides_on_code(variable: str) -> bool:
    """Whether a variable of this name can make another program run than the command says."""
    name = variable.upper()
    return name in _CODE_VARIABLES or name.startswith(_CODE_PREFIXES)


class FileProblem(Value):
    """Something in a file that cannot be used. The rest of it is."""

    file: str
    line: int | None = None
    key: str = ""
    """Such as `mcpServers.fetch.args`."""
    message: str
    hint: str = ""


class Configured(NamedTuple):
    """What all files together say."""

    entries: tuple[ServerEntry, ...] = ()
    problems: tuple[FileProblem, ...] = ()
    files: tuple[str, ...] = ()
    """Those that were read, the strongest first."""
    whole: bool = True
    """No server is missing because its file, or its entry, could not be read at all."""


class ToolChoice(Value):
    """What a person chose for a tool."""

    enabled: bool = True
    approval: ApprovalMode | None = None
    """None: as for the server."""


class AgreedServer(Value):
    """What somebody said yes to, for people to compare. No value of a variable or header is in it."""

    line: str
    """The command line, or the address."""
    cwd: str | None = None
    variables: tuple[str, ...] = ()
    """Their names; those of LM Desk's own say so."""
    code: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the values that decide on code, by name."""
    headers: tuple[str, ...] = ()
    private: bool = False
    client_id: str = ""


class ServerChoices(Value):
    """What a person chose for a server, kept beside the files of others."""

    trusted: str | None = None
    """The fingerprint somebody said yes to."""
    place: tuple[str, ...] = ()
    """Where the program lay that belongs to that yes."""
    agreed: AgreedServer | None = None
    """What that yes was about, in words; None for a yes from before that was kept."""
    known: tuple[Tool, ...] | None = None
    """The tools that belong to that yes; None before its first start."""
    enabled: bool | None = None
    """None: as the file says."""
    approval: ApprovalMode | None = None
    tools: dict[str, ToolChoice] = Field(default_factory=dict)
    inherit_env: tuple[str, ...] = ()
    """Variables of ours that the server also gets."""
    start_seconds: float = Field(default=START_SECONDS, gt=0, le=MAX_START_SECONDS)
    call_seconds: float | None = Field(default=None, gt=0, le=MAX_CALL_SECONDS)
    """No call may take longer; None: as the caller says."""

    def asking(self) -> dict[str, Any]:
        """What becomes of them when the server is another one: nothing of it runs unasked any more."""
        tools = {
            name: choice.model_copy(update={"approval": None})
            if choice.approval == "auto"
            else choice
            for name, choice in self.tools.items()
        }
        return {"approval": None if self.approval == "auto" else self.approval, "tools": tools}


def variable_names(names: Sequence[str]) -> tuple[str, ...]:
    """These, each once, where variables of ours may be called so and passed on.

    Raises BadParameter.
    """
    found = tuple(dict.fromkeys(name.strip() for name in names))
    if len(found) > MAX_INHERITED:
        raise BadParameter(f"A tool server gets at most {MAX_INHERITED} variables of yours.")
    for name in found:
        if not _VARIABLE.fullmatch(name):
            raise BadParameter(
                f"{name[:80]!r} is not the name of a variable.",
                hint="Write names alone, such as HTTPS_PROXY; their values are those of LM Desk.",
            )
        if name.upper().startswith(_OURS):
            raise BadParameter(
                f"{name} belongs to LM Desk and may hold its password, so no tool server gets it."
            )
    return found


class ServerFiles(Protocol):
    """The files that name tool servers."""

    async def read(self) -> Configured:
        """All of them, merged. Never raises for what is wrong in them."""
        ...

    async def put(self, name: str, entry: Mapping[str, Any], *, new: bool = False) -> None:
        """Write this entry into our own file, with `new` only where it has none of that name.

        Raises BadParameter, StorageError.
        """
        ...

    async def remove(self, name: str) -> bool:
        """Take it out of our own file; whether it was there. Raises StorageError."""
        ...


class ChoiceStore(Protocol):
    """Where the choices lie."""

    async def load(self) -> dict[str, ServerChoices]:
        """By name. Raises StorageError where the file is broken."""
        ...

    async def save(self, choices: Mapping[str, ServerChoices]) -> None:
        """Raises StorageError."""
        ...


def tool_hash(tool: Tool) -> str:
    """SHA-256 of all that a server says of a tool."""
    hints = [tool.read_only, tool.destructive, tool.open_world]
    return _sha256([tool.name, tool.description, tool.arguments, hints])


def hash_with_place(fingerprint: str, place: Sequence[str]) -> str:
    """The hash of a server together with where its program lies."""
    return _sha256([fingerprint, list(place)]) if place else fingerprint


def hash_with_tools(fingerprint: str, tools: Iterable[Tool]) -> str:
    """The hash of a server together with its tools."""
    return _sha256([fingerprint, sorted(tool_hash(tool) for tool in tools)])


def tool_changes(known: Iterable[Tool], now: Iterable[Tool]) -> dict[str, str]:
    """What is new or different since somebody said yes, a word for each tool's name."""
    old = {tool.name: tool for tool in known}
    changes = {}
    for tool in now:
        before = old.get(tool.name)
        if before is None:
            changes[tool.name] = "new"
        elif tool_hash(before) != tool_hash(tool):
            changes[tool.name] = _difference(before, tool)
    return changes


def _difference(before: Tool, now: Tool) -> str:
    parts = []
    if before.description != now.description:
        parts.append("description")
    if before.arguments != now.arguments:
        parts.append("arguments")
    return f"{' and '.join(parts) or 'hints'} changed"


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
