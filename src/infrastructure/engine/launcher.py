"""Starts the engine as a program of its own, and knows whether it still runs."""

import asyncio
import contextlib
import os
import secrets
import string
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson
import structlog

from core.errors import ProviderUnreachable

log = structlog.get_logger(__name__)

_TOKEN_VARIABLE: Final = "LMDESK_ENGINE_TOKEN"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0
_ALPHABET: Final = string.ascii_letters + string.digits


class EmbeddedEngine:
    """One engine on a free port, with a token that only we know."""

    def __init__(
        self,
        models_dirs: Sequence[Path],
        data_dir: Path | None,
        *,
        shared_folders: bool = True,
        starter: bool = True,
        memory_budget: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.token = f"sk-lm-{_random(8)}:{_random(20)}"
        self.url: str | None = None
        self._arguments = _arguments(
            models_dirs, data_dir, shared_folders, starter, memory_budget, threads
        )
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._last_lines: deque[str] = deque(maxlen=30)
        self._door = asyncio.Lock()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self.running else None

    async def start(self) -> str:
        """Its URL; starts it if it does not run, also after it died.

        Any number of callers get the same engine. Raises ProviderUnreachable with the engine's own
        last words.
        """
        async with self._door:
            if self.running and self.url:
                return self.url
            await self._end()
            try:
                async with asyncio.timeout(_START_SECONDS):
                    self.url = await self._launch()
            except TimeoutError:
                await self._end()
                raise self._failure(f"It did not answer in {_START_SECONDS:.0f} s.") from None
            except BaseException:
                await self._end()
                raise
            log.info("embedded_engine_started", url=self.url, pid=self.pid)
            return self.url

    async def stop(self) -> None:
        """End it and all its models."""
        async with self._door:
            await self._end()

    async def _launch(self) -> str:
        self._last_lines.clear()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, _TOKEN_VARIABLE: self.token},
        )
        self._process = process
        self._readers = [asyncio.create_task(self._read_log(process))]
        line = await process.stdout.readline() if process.stdout else b""
        if not line:
            await process.wait()
            await asyncio.wait(self._readers, timeout=1)
            raise self._failure(f"It ended with code {process.returncode}.")
        self._readers.append(asyncio.create_task(_drain(process.stdout)))
        return str(orjson.loads(line)["url"])

    async def _end(self) -> None:
        """The end of its stdin is its sign; what does not heed it is killed."""
        process, self._process, self.url = self._process, None, None
        if process is None:
            return
        if process.stdin:
            process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            log.warning("embedded_engine_killed", pid=process.pid)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            await asyncio.gather(*self._readers, return_exceptions=True)

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        if process.stderr is None:
            return
        while chunk := await process.stderr.read(65536):
            for line in chunk.decode("utf-8", "replace").splitlines():
                self._last_lines.append(line)
                log.debug("embedded_engine", line=line)

    def _failure(self, what: str) -> ProviderUnreachable:
        last = " ".join(self._last_lines)[-500:]
        return ProviderUnreachable(
            f"The embedded engine did not start. {what} {last}".strip(),
            hint="Start LM Studio instead, or look at the log.",
        )


def _arguments(
    models_dirs: Sequence[Path],
    data_dir: Path | None,
    shared_folders: bool,
    starter: bool,
    memory_budget: int | None,
    threads: int | None,
) -> list[str]:
    arguments = ["-m", "infrastructure.engine", "--announce", "--port", "0", "--host", "127.0.0.1"]
    arguments += ["--parent", str(os.getpid())]
    for folder in models_dirs:
        arguments += ["--models", str(folder)]
    if data_dir:
        arguments += ["--data-dir", str(data_dir)]
    arguments += [] if shared_folders else ["--only-models"]
    arguments += [] if starter else ["--no-starter"]
    arguments += ["--memory-budget", str(memory_budget)] if memory_budget else []
    arguments += ["--threads", str(threads)] if threads else []
    return arguments


async def _drain(stream: asyncio.StreamReader | None) -> None:
    while stream and await stream.read(65536):
        continue


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
