"""The keys that signing in to tool servers gave us, in a file for nobody else's eyes."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.errors import StorageError
from infrastructure.tools.files import write_json

VERSION = 1
_Servers = dict[str, dict[str, Any]]


class KeyFile:
    """`tool-keys.json`, mode 0600: by server its address, and what belongs to its sign-in.

    A key belongs to the address it was given for; with another one it counts as not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._servers: _Servers | None = None
        self._lock = asyncio.Lock()
        self._writing: set[asyncio.Task[bool]] = set()

    async def known(self) -> frozenset[tuple[str, str]]:
        """Names and addresses of the servers there is an access token for."""
        servers = await self._loaded()
        return frozenset((name, kept["url"]) for name, kept in servers.items() if kept["tokens"])

    async def get(self, server: str, url: str) -> dict[str, Any]:
        """What is kept for it; empty where nothing is."""
        kept = (await self._loaded()).get(server)
        return dict(kept) if kept and kept["url"] == url else {}

    async def put(self, server: str, url: str, **parts: Any) -> None:
        """Keep these parts beside what is kept for it at this address. Raises StorageError."""

        def changed(servers: _Servers) -> _Servers:
            kept = servers.get(server)
            same = kept if kept and kept["url"] == url else {"tokens": None}
            return {**servers, server: {**same, **parts, "url": url}}

        await self._change(changed)

    async def renew(self, server: str, url: str, before: Mapping[str, Any], **parts: Any) -> bool:
        """Keep these where these tokens from before are still kept; whether they were.

        Nobody signed out meanwhile, or in as somebody else. Raises StorageError.
        """

        def changed(servers: _Servers) -> _Servers:
            kept = servers.get(server)
            if not kept or kept["url"] != url or kept["tokens"] != before:
                return servers
            return {**servers, server: {**kept, **parts}}

        return await self._change(changed)

    async def drop(self, server: str) -> None:
        """Keep nothing of it. Raises StorageError."""

        def changed(servers: _Servers) -> _Servers:
            if server not in servers:
                return servers
            return {name: kept for name, kept in servers.items() if name != server}

        await self._change(changed)

    async def _change(self, changed: Callable[[_Servers], _Servers]) -> bool:
        # Whoever is cancelled while it is written leaves no file that we know nothing of.
        writing = asyncio.create_task(self._write(changed))
        self._writing.add(writing)
        writing.add_done_callback(self._written)
        return await asyncio.shield(writing)

    def _written(self, writing: asyncio.Task[bool]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # there may be nobody left to hear it

    async def _write(self, changed: Callable[[_Servers], _Servers]) -> bool:
        async with self._lock:
            before = await self._loaded_here()
            after = changed(before)
            if after is not before:
                await self._save(after)
            return after is not before

    async def _save(self, servers: _Servers) -> None:
        await asyncio.to_thread(write_json, self._path, {"version": VERSION, "servers": servers})
        self._servers = servers

    async def _loaded(self) -> _Servers:
        if self._servers is None:
            async with self._lock:
                return await self._loaded_here()
        return self._servers

    async def _loaded_here(self) -> _Servers:
        # Nobody else writes it, so once is enough.
        if self._servers is None:
            self._servers = await asyncio.to_thread(self._read)
        return self._servers

    def _read(self) -> _Servers:
        try:
            whole = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                str(name): {**kept, "url": str(kept["url"]), "tokens": _tokens(kept)}
                for name, kept in whole["servers"].items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # Without the reason: it may quote a key.
            raise StorageError(
                f"{self._path} cannot be read.",
                hint="Delete it, and sign in to the tool servers again.",
            ) from error


def _tokens(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """None where they cannot be used: without all that belongs to them they are no key."""
    tokens = kept.get("tokens")
    whole = isinstance(tokens, dict) and isinstance(tokens.get("access_token"), str)
    return tokens if whole and isinstance(kept.get("return_to"), str) else None
