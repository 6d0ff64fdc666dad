"""Makes sure that no tool server outlives us, even if we are killed."""

import subprocess
import sys
from pathlib import Path

import anyio
from anyio.abc import Process

REAPER = Path(__file__).with_name("reaper.py")


class Watchdog:
    """Tells the reaper which process groups are ours; it starts with the first of them."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._groups: set[int] = set()
        self._lock = anyio.Lock()

    async def watch(self, group: int) -> None:
        self._groups.add(group)
        await self._tell(f"+{group}\n")

    async def forget(self, group: int) -> None:
        self._groups.discard(group)
        await self._tell(f"-{group}\n")

    async def aclose(self) -> None:
        """Every group was forgotten by now, so it only goes."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        await process.stdin.aclose()
        with anyio.move_on_after(5):
            await process.wait()
        await process.aclose()

    async def _tell(self, line: str) -> None:
        # Windows ends the children by itself: they are in a job object of ours.
        if sys.platform == "win32":
            return
        async with self._lock:
            try:
                if self._process is None or self._process.stdin is None:
                    raise anyio.ClosedResourceError
                await self._process.stdin.send(line.encode())
            except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
                # The first time, or somebody ended it: a new one hears of all.
                await self._start()

    async def _start(self) -> None:
        if self._process is not None:
            await self._process.aclose()
        self._process = process = await anyio.open_process(
            [sys.executable, "-I", "-S", str(REAPER)],
            # Ours may be a pipe that somebody waits on.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdin is not None
        for group in sorted(self._groups):
            await process.stdin.send(f"+{group}\n".encode())
