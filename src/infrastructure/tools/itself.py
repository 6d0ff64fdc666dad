"""LM Desk among its own tool servers: other programs list it, and it must not call itself."""

from collections.abc import Collection
from pathlib import PurePath
from urllib.parse import urlsplit

from core.tool_entries import ServerEntry
from infrastructure.tools.addresses import is_local

PROBLEM = "it is LM Desk itself, which does not use itself as a tool."
_PORTS = {"http": 80, "https": 443}


def is_itself(entry: ServerEntry, addresses: Collection[str]) -> bool:
    """Whether this starts or reaches an LM Desk; `addresses` are where this one answers."""
    if entry.transport == "http":
        return _place(entry.url) in {_place(address) for address in addresses}
    names = [
        PurePath(word.replace("\\", "/")).name.lower() for word in (entry.command, *entry.args)
    ]
    # Also by way of uvx, pipx or `python -m`.
    return "mcp" in names and any(name.removesuffix(".exe") == "lmdesk" for name in names)


def _place(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return "localhost" if is_local(host) else host, parts.port or _PORTS.get(parts.scheme)
