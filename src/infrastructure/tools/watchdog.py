"""Makes sure that no tool server outlives us, even if we are killed."""

import sys
from pathlib import Path

import anyio
from anyio.abc import Process

REAPER = Path(__file__).with_name("reaper.py")


class Watchdog:
    """Tells the reaper which process groups are ours; it starts with the first of them."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._lock = anyio.Lock()

    async def watch(self, group: int) -> None:
        await self._tell(f"+{group}\n")

    async def forget(self, group: int) -> None:
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
            if self._process is None or self._process.returncode is not None:
                self._process = await anyio.open_process(
                    [sys.executable, "-I", "-S", str(REAPER)],
                    stdout=None,
                    stderr=None,
                    start_new_session=True,
                )
            assert self._process.stdin is not None
            await self._process.stdin.send(line.encode())
