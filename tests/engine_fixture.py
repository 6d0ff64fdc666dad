"""A running engine on a real socket for tests, with a look at its processes.

async with start_engine(models_dir) as engine:
    engine.url, engine.token, engine.headers, engine.pid, engine.children()
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

DEADLINE = 60.0


@dataclass
class RunningEngine:
    url: str
    token: str | None
    process: asyncio.subprocess.Process
    log: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def children(self) -> list[int]:
        """The processes of its models."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    async def ended(self) -> int:
        """Wait for its end; its exit code."""
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


@asynccontextmanager
async def start_engine(
    models_dir: Path | None = None,
    *,
    token: str | None = None,
    profile: str = "0.4",
    starter: bool = False,
    memory_budget: int | None = None,
    arguments: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> AsyncIterator[RunningEngine]:
    """Looks for models in `models_dir` only."""
    command = ["--announce", "--port", "0", "--only-models", "--profile", profile]
    command += ["--models", str(models_dir)] if models_dir else []
    command += [] if starter else ["--no-starter"]
    command += ["--memory-budget", str(memory_budget)] if memory_budget else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "infrastructure.engine"),
        *command,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            **({"LMDESK_ENGINE_TOKEN": token} if token else {}),
            **(environment or {}),
        },
        limit=1 << 20,
    )
    assert process.stdin
    assert process.stdout
    engine = RunningEngine("", token, process)
    reader = asyncio.create_task(_read(process.stderr, engine.log))
    try:
        async with asyncio.timeout(DEADLINE):
            line = await process.stdout.readline()
        assert line, f"the engine did not start: {engine.log}"
        engine.url = json.loads(line)["url"]
        yield engine
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"the engine did not end: {engine.log[-20:]}") from None
        finally:
            await reader


async def wait_until(condition: Callable[[], object], *, seconds: float = DEADLINE) -> None:
    """Poll until true; fail at the deadline."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    while stream and (line := await stream.readline()):
        lines.append(line.decode(errors="replace").rstrip())
