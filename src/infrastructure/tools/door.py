"""Starts and reaches tool servers; the MCP client is imported with the first of them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ToolServerFailed
from core.redaction import Redaction
from core.tool_entries import ServerEntry
from infrastructure.tools.environment import child_environment
from infrastructure.tools.keys import KeyFile
from infrastructure.tools.logs import ServerLog, end_of, last_lines, log_path
from infrastructure.tools.watchdog import Watchdog

if TYPE_CHECKING:
    from infrastructure.tools.renewing import Renewals, SignedIn
    from infrastructure.tools.session import Session
    from infrastructure.tools.ways import Way


class ToolDoor:
    """Opens sessions; each server's log lies in `logs`."""

    def __init__(self, logs: Path, keys: KeyFile | None = None) -> None:
        """`keys` are what signing in gave."""
        self._logs = logs
        self._keys = keys
        self._renewals: Renewals | None = None
        self._watchdog = Watchdog()

    async def open(
        self,
        entry: ServerEntry,
        *,
        inherit_env: tuple[str, ...],
        seconds: float,
        on_tools_changed: Callable[[], None],
    ) -> "Session":
        """A session that is up. Raises ToolServerFailed with the end of its log."""
        # A second of CPU the page does not wait for.
        session_type = await asyncio.to_thread(_session_type)
        way = await self._way(entry, inherit_env)
        session = session_type(entry.name, way, on_tools_changed)
        try:
            await session.open(seconds)
        except ToolServerFailed as error:
            end = await self.log_end(entry.name) if entry.transport == "stdio" else ""
            if end and not error.hint:
                raise ToolServerFailed(
                    error.message, hint=f"Its log ends: {last_lines(end)}"
                ) from error
            raise
        return session

    async def _way(self, entry: ServerEntry, inherit: tuple[str, ...]) -> "Way":
        from infrastructure.tools.child import Child
        from infrastructure.tools.ways import ChildWay, RemoteWay

        if entry.transport == "http":
            headers = {name: value.get_secret_value() for name, value in entry.headers.items()}
            return RemoteWay(
                entry.url,
                headers,
                allow_private=entry.allow_private,
                auth=await self._auth(entry),
            )
        env = child_environment(entry, inherit)
        kept = [value.get_secret_value() for value in entry.env.values()]
        kept += [env[name] for name in inherit if name in env]
        log = ServerLog(log_path(self._logs, entry.name), Redaction(kept))
        return ChildWay(
            Child(
                entry.name,
                # Exactly the file that was looked at, should the PATH lead elsewhere by now.
                [entry.program or entry.command, *entry.args],
                env=env,
                cwd=entry.cwd,
                log=log,
                watchdog=self._watchdog,
            )
        )

    async def _auth(self, entry: ServerEntry) -> "SignedIn | None":
        # A key somebody wrote down counts before one that was given.
        if self._keys is None or any(name.lower() == "authorization" for name in entry.headers):
            return None
        kept = await self._keys.get(entry.name, entry.url)
        if not kept.get("tokens"):
            return None
        from infrastructure.tools.renewing import Renewals, SignedIn

        if self._renewals is None:
            self._renewals = Renewals(self._keys)
        return SignedIn(entry, self._renewals)

    async def log_end(self, server: str) -> str:
        """The last lines it wrote; empty where it wrote nothing."""
        return await asyncio.to_thread(end_of, log_path(self._logs, server))

    async def aclose(self) -> None:
        """Every session is closed by now."""
        if self._renewals is not None:
            await self._renewals.aclose()
        await self._watchdog.aclose()


def _session_type() -> "type[Session]":
    from infrastructure.tools.session import Session

    return Session
