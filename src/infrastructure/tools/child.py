"""A tool server as a child process: its pipes as the MCP client wants them, and its sure end."""

import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
import mcp_types
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.os.win32.utilities import (
    close_process_job,
    create_windows_process,
    get_windows_executable_command,
    terminate_windows_process_tree,
)
from mcp.shared.message import SessionMessage

from core.errors import ToolServerFailed
from infrastructure.tools.logs import ServerLog
from infrastructure.tools.watchdog import Watchdog

Streams = tuple[
    MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]
]
# The largest answer; a server that writes more without an end of line is broken.
MAX_LINE = 64 * 1024 * 1024
_KEPT_NOISE = 3
# After its standard input closed, after SIGTERM, and after SIGKILL.
_GRACE_SECONDS = (1.0, 2.0, 2.0)
_POLL_SECONDS = 0.01
_GONE = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, OSError)


class Child:
    """What is to be started, and what became of it."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        env: dict[str, str],
        cwd: str | None,
        log: ServerLog,
        watchdog: Watchdog,
    ) -> None:
        self._name = name
        self._command = command
        self._env = env
        self._cwd = cwd
        self.log = log
        self._watchdog = watchdog
        self.noise: list[str] = []
        """The first lines it wrote to its standard output that are not of the protocol."""
        self.too_long = False
        self.code: int | None = None
        """Its exit status, once it ended by itself."""
        self.ended = anyio.Event()

    @asynccontextmanager
    async def streams(self) -> AsyncGenerator[Streams]:
        """Its pipes, message by message; afterwards neither it nor a child of it is left.

        Raises ToolServerFailed where it cannot be started.
        """
        process = await self._spawn()
        async with AsyncExitStack() as stack:
            to_session, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
            write, from_session = anyio.create_memory_object_stream[SessionMessage](0)
            for stream in (to_session, read, write, from_session):
                stack.callback(stream.close)
            pumps = await stack.enter_async_context(anyio.create_task_group())
            try:
                if process.stderr is not None:
                    pumps.start_soon(self._keep_log, process.stderr)
                pumps.start_soon(self._read, process, to_session)
                pumps.start_soon(self._write, process, from_session, to_session)
                # Told from inside: were we cancelled before, the process would be nobody's.
                await self._watchdog.watch(process.pid)
                yield read, write
            finally:
                with anyio.CancelScope(shield=True):
                    read.close()
                    write.close()
                    await self._end(process)
                    await self._watchdog.forget(process.pid)
                pumps.cancel_scope.cancel()

    # -- starting --------------------------------------------------------------------------------

    async def _spawn(self) -> Process:
        folder = self._cwd or str(Path.home())
        if not await anyio.Path(folder).is_dir():
            raise ToolServerFailed(
                f"The tool server {self._name} was not started: there is no folder {folder}.",
                hint="Correct its cwd.",
            )
        program = self._command[0]
        found = await anyio.to_thread.run_sync(self._find, program, folder)
        if found is None:
            raise ToolServerFailed(
                f"The tool server {self._name} was not started: there is no program {program!r}.",
                hint="Install it, or write where it lies in full.",
            )
        try:
            return await self._open([found, *self._command[1:]], folder)
        except OSError as error:
            raise ToolServerFailed(
                f"The tool server {self._name} was not started: {program}: {error.strerror}."
            ) from error

    def _find(self, program: str, folder: str) -> str | None:
        if sys.platform == "win32":
            return get_windows_executable_command(program)
        if os.sep in program:
            path = Path(folder, program)
            return str(path) if path.exists() else None
        return shutil.which(program, path=self._env.get("PATH", os.defpath))

    async def _open(self, command: list[str], folder: str) -> Process:
        if sys.platform == "win32":
            process = await create_windows_process(
                command[0], command[1:], self._env, sys.stderr, folder
            )
            assert isinstance(process, Process)
            return process
        # A group of its own: its children end with it, and Ctrl+C is ours alone.
        return await anyio.open_process(command, env=self._env, cwd=folder, start_new_session=True)

    # -- while it runs ---------------------------------------------------------------------------

    async def _read(
        self,
        process: Process,
        to_session: MemoryObjectSendStream[SessionMessage | Exception],
    ) -> None:
        assert process.stdout is not None
        try:
            async with to_session:
                async for line in self._lines(process.stdout):
                    message = self._message(line)
                    if message is not None:
                        await to_session.send(message)
        except _GONE:
            pass  # the session is over, or the pipe is
        finally:
            self.code = process.returncode
            self.ended.set()
        # What it still writes must not keep it from ending.
        with suppress(*_GONE):
            while True:
                await process.stdout.receive()

    async def _lines(self, stdout: ByteReceiveStream) -> AsyncGenerator[bytes]:
        rest = bytearray()
        async for chunk in stdout:
            seen = len(rest)
            rest += chunk
            while (end := rest.find(b"\n", seen)) >= 0:
                yield bytes(rest[:end])
                del rest[: end + 1]
                seen = 0
            if len(rest) > MAX_LINE:
                self.too_long = True
                return

    def _message(self, line: bytes) -> SessionMessage | None:
        if not line.strip():
            return None
        try:
            return SessionMessage(
                mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
            )
        except ValueError:
            text = line[:300].decode("utf-8", "replace").strip()
            if len(self.noise) < _KEPT_NOISE:
                self.noise.append(text)
            self.log.note(f"(on its standard output) {text}")
            return None

    async def _write(
        self,
        process: Process,
        from_session: MemoryObjectReceiveStream[SessionMessage],
        to_session: MemoryObjectSendStream[SessionMessage | Exception],
    ) -> None:
        assert process.stdin is not None
        try:
            async with from_session:
                async for each in from_session:
                    text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await process.stdin.send(f"{text}\n".encode())
        except _GONE:
            # Nobody would ever answer: the session has to hear that it is over.
            to_session.close()
            self.ended.set()

    async def _keep_log(self, stderr: ByteReceiveStream) -> None:
        try:
            async for chunk in stderr:
                self.log.write(chunk)
        except _GONE:
            pass
        finally:
            self.log.flush()

    # -- its end ---------------------------------------------------------------------------------

    async def _end(self, process: Process) -> None:
        """Ask it to end, then make it, with all it started."""
        if process.stdin is not None:
            with suppress(*_GONE):
                await process.stdin.aclose()
        gently, firmly, at_last = _GRACE_SECONDS
        if not await _exited(process, gently) and sys.platform == "win32":
            await terminate_windows_process_tree(process)
        if sys.platform == "win32":
            close_process_job(process)
        elif _signal(process.pid, signal.SIGTERM) and not await _group_gone(process, firmly):
            _signal(process.pid, signal.SIGKILL)
            await _group_gone(process, at_last)
        await _exited(process, at_last)
        if process.returncode is not None:
            self.code = process.returncode if self.code is None else self.code
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                with suppress(*_GONE):
                    await pipe.aclose()
        self.log.flush()
        _close_transport(process)


async def _exited(process: Process, seconds: float) -> bool:
    # Not `wait()`, which also waits for pipes that a grandchild may hold.
    deadline = anyio.current_time() + seconds
    while process.returncode is None:
        if anyio.current_time() > deadline:
            return False
        await anyio.sleep(_POLL_SECONDS)
    return True


async def _group_gone(process: Process, seconds: float) -> bool:
    deadline = anyio.current_time() + seconds
    while _signal(process.pid, 0):
        if anyio.current_time() > deadline:
            return False
        await anyio.sleep(_POLL_SECONDS)
    return True


def _signal(group: int, sign: int) -> bool:
    """Whether anybody of this group was there."""
    try:
        os.killpg(group, sign)
    except OSError:
        return False
    return True


def _close_transport(process: Process) -> None:
    # A grandchild that left its group may hold a pipe; nothing public closes our end then.
    transport = getattr(getattr(process, "_process", None), "_transport", None)
    close = getattr(transport, "close", None)
    if callable(close):
        with suppress(PermissionError):
            close()
