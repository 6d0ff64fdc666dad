"""The keys that signing in to tool servers gave us, in a file for nobody else's eyes."""

import asyncio
import json
from pathlib import Path
from typing import Any

from core.errors import StorageError
from infrastructure.tools.files import write_json

VERSION = 1


class KeyFile:
    """`tool-keys.json`, mode 0600: by server its address, and what belongs to its sign-in.

    A key belongs to the address it was given for; with another one it counts as not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._servers: dict[str, dict[str, Any]] | None = None
        self._lock = asyncio.Lock()

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
        async with self._lock:
            servers = await self._loaded_here()
            kept = servers.get(server)
            same = kept if kept and kept["url"] == url else {"tokens": None}
            await self._save({**servers, server: {**same, **parts, "url": url}})

    async def drop(self, server: str) -> None:
        """Keep nothing of it. Raises StorageError."""
        async with self._lock:
            servers = await self._loaded_here()
            if server in servers:
                await self._save({name: each for name, each in servers.items() if name != server})

    async def _save(self, servers: dict[str, dict[str, Any]]) -> None:
        await asyncio.to_thread(write_json, self._path, {"version": VERSION, "servers": servers})
        self._servers = servers

    async def _loaded(self) -> dict[str, dict[str, Any]]:
        if self._servers is None:
            async with self._lock:
                return await self._loaded_here()
        return self._servers

    async def _loaded_here(self) -> dict[str, dict[str, Any]]:
        # Nobody else writes it, so once is enough.
        if self._servers is None:
            self._servers = await asyncio.to_thread(self._read)
        return self._servers

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            whole = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                str(name): {"tokens": None, **kept, "url": str(kept["url"])}
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
