"""The process of one loaded model, seen from the engine: start with progress, reason, end."""

import asyncio
import contextlib
import json
import os
import re
import secrets
import sys
from collections import deque
from pathlib import Path
from typing import Any, Final

import structlog

from core.errors import LoadFailed
from core.value import Value
from infrastructure.engine.progress import OnProgress, Progress

log = structlog.get_logger(__name__)

_ENVIRONMENT: Final = {
    # llama.cpp then writes its load progress, and leaves when stdin closes.
    "LLAMA_SERVER_ROUTER_PORT": "0",
    # Spinning threads collapse as soon as anything else runs on the machine.
    "OMP_WAIT_POLICY": "passive",
    # Else an abort starts a debugger, where one is installed.
    "GGML_NO_BACKTRACE": "1",
}
_STATE: Final = "cmd_child_to_router:state:"
_REASONS: Final = re.compile(
    r"gguf_init_from_\w+: (.+)"
    r"|error loading model: (.+)"
    r"|(failed to allocate .+)"
    r"|(chat template parsing error: .+)"
    r"|(GGML_ASSERT.+)"
)
_SAMPLE_SECONDS: Final = 0.02
_LINE_LIMIT: Final = 4 << 20


class ChildSettings(Value):
    """How a model is loaded; the fields are those `child.py` reads."""

    id: str
    path: str
    projector: str | None = None
    context_length: int
    parallel: int = 1
    batch: int = 256
    threads: int = 1
    load_mode: str = "NONE"
    flash_attention: bool | None = None
    k_cache_type: str = "f16"
    v_cache_type: str = "f16"
    gpu_layers: int | None = None
    offload_cache: bool = True
    chat_template: str | None = None
    temperature: float | None = None
    repeat_penalty: float = 1.0
    embedding: bool = False
    pooling: str | None = None
    data_limit: int | None = None
    file_bytes: int


class ChildProcess:
    """Start it once, stop it once."""

    def __init__(self, settings: ChildSettings) -> None:
        self.settings = settings
        self.url = ""
        self.has_gpu = False
        """Whether its llama.cpp found a GPU to offload to."""
        self.exited = asyncio.Event()
        self.exit_code: int | None = None
        self._key = secrets.token_urlsafe(24)
        self._process: asyncio.subprocess.Process | None = None
        self._complaints: deque[str] = deque(maxlen=60)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    async def start(self, on_progress: OnProgress) -> None:
        """Return when it listens. Raises LoadFailed. Cancelling ends the process."""
        progress = Progress(
            on_progress,
            file_bytes=self.settings.file_bytes,
            mapped=self.settings.load_mode == "MMAP",
        )
        try:
            process = self._process = await _spawn()
            self._tasks = [
                asyncio.create_task(self._read_complaints(process)),
                asyncio.create_task(self._wait(process)),
            ]
            progress.spawned()
            await self._configure(process)
            sampler = asyncio.create_task(_sample(progress, process.pid))
            try:
                await self._read_until_listening(process, progress)
            finally:
                sampler.cancel()
            progress.ready()
        except BaseException:
            await self.stop()
            raise
        self._tasks.append(asyncio.create_task(_drain(process)))

    async def stop(self) -> None:
        """End it at once; there is nothing to save. Its memory is back when this returns."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await asyncio.shield(asyncio.gather(*self._tasks, return_exceptions=True))
        if process.stdin:
            process.stdin.close()

    def complaint(self) -> str | None:
        """llama.cpp's own reason, if it gave one."""
        for line in self._complaints:
            if match := _REASONS.search(line):
                return next(group for group in match.groups() if group).strip()
        return None

    async def _configure(self, process: asyncio.subprocess.Process) -> None:
        chosen = self.settings.model_dump()
        chosen["mmproj"] = chosen.pop("projector")
        line = json.dumps({**chosen, "api_key": self._key, "parent": os.getpid()})
        if process.stdin is None:
            raise LoadFailed("The model's process has no input.")
        process.stdin.write(line.encode() + b"\n")
        # A process that ended already is reported by the end of its output.
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()

    async def _read_until_listening(
        self, process: asyncio.subprocess.Process, progress: Progress
    ) -> None:
        if process.stdout is None:
            raise LoadFailed("The model's process has no output.")
        async for raw in process.stdout:
            line = raw.decode("utf-8", "replace").strip()
            if line.startswith(_STATE):
                _note_weights(progress, json.loads(line.removeprefix(_STATE)))
            elif line.startswith("{"):
                said = json.loads(line)
                match said["state"]:
                    case "started":
                        progress.started()
                    case "reading":
                        progress.reading(said["already_read"])
                    case "failed":
                        raise await self._failure(said["error"])
                    case "listening":
                        self.url = said["url"]
                        self.has_gpu = said["gpu"]
                        return
        raise await self._failure("the model's process ended while loading")

    async def _failure(self, default: str) -> LoadFailed:
        """Wait for the end, because the reason may still be on its way."""
        await asyncio.wait(self._tasks, timeout=2)
        reason = self.complaint() or default
        if self.exit_code is not None and self.exit_code < 0:
            reason += f" (signal {-self.exit_code})"
        return LoadFailed(reason)

    async def _read_complaints(self, process: asyncio.subprocess.Process) -> None:
        if process.stderr is None:
            return
        rest = b""
        while chunk := await process.stderr.read(65536):
            # llama.cpp writes a line in pieces, so it may come in pieces.
            *whole, rest = (rest + chunk).split(b"\n")
            rest = rest[-_LINE_LIMIT:]
            for line in whole:
                self._complain(line)
        self._complain(rest)

    def _complain(self, raw: bytes) -> None:
        if line := raw.decode("utf-8", "replace").strip():
            self._complaints.append(line)
            log.debug("llama_cpp", instance=self.settings.id, line=line)

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        self.exit_code = await process.wait()
        self.exited.set()


async def _spawn() -> asyncio.subprocess.Process:
    """Start the program, and never lose it: a cancelled start ends it."""
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # its folder holds our modules, whose names are not for it
            str(Path(__file__).with_name("child.py")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
            limit=_LINE_LIMIT,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        process = await starting
        process.kill()
        await process.wait()
        raise


async def _sample(progress: Progress, pid: int) -> None:
    while sys.platform == "linux":
        progress.sample(pid)
        await asyncio.sleep(_SAMPLE_SECONDS)


async def _drain(process: asyncio.subprocess.Process) -> None:
    while process.stdout and await process.stdout.read(65536):
        continue


def _note_weights(progress: Progress, state: dict[str, Any]) -> None:
    """`{"state": "loading", "payload": {"stages": […], "current": "text_model", "value": 0.4}}`."""
    payload = state.get("payload") or {}
    if state.get("state") != "loading" or "value" not in payload:
        return
    stages = payload["stages"]
    progress.weights((stages.index(payload["current"]) + payload["value"]) / len(stages))
