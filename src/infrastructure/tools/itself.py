"""LM Desk among its own tool servers: other programs list it, and it must not call itself."""

import re
from collections.abc import Collection
from itertools import pairwise
from pathlib import PurePath
from urllib.parse import urlsplit

from core.tool_entries import ServerEntry
from infrastructure.tools.addresses import is_local

PROBLEM = "it is LM Desk itself, which does not use itself as a tool."
HINT = "Other programs reach LM Desk there; agents have its models already."
NAME = "lmdesk"
"""What LM Desk calls itself to servers, and to whoever reaches it as one."""
_PORTS = {"http": 80, "https": 443}
# As uvx and pipx also have it: lmdesk@latest, lmdesk==1.2, lmdesk[extra].
_PROGRAM = re.compile(r"lmdesk(\.exe)?([@=<>~!\[].*)?")
_MODULE = ("app", "app.main")
_SHELLS = frozenset(
    {"sh", "bash", "dash", "zsh", "ksh", "fish", "cmd", "powershell", "pwsh", "env"}
)


def is_itself(entry: ServerEntry, addresses: Collection[str]) -> bool:
    """Whether this starts or reaches an LM Desk, as far as can be seen before it is tried.

    `addresses` are where this one answers.
    """
    if entry.transport == "http":
        return _place(entry.url) in {_place(address) for address in addresses}
    words = [entry.command, *entry.args]
    names = [_name(word) for word in words]
    if names[0].removesuffix(".exe") in _SHELLS:
        # What a shell is given is a line of words itself.
        words = [part for word in words for part in re.split(r"[\s;&|()'\"]+", word) if part]
        names = [_name(word) for word in words]
    modules = (after for flag, after in pairwise(words) if flag == "-m")
    return "mcp" in names and (
        any(_PROGRAM.fullmatch(name) for name in names)
        or any(module in _MODULE for module in modules)
    )


def _name(word: str) -> str:
    return PurePath(word.replace("\\", "/")).name.lower()


def _place(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return "localhost" if is_local(host) else host, parts.port or _PORTS.get(parts.scheme)
