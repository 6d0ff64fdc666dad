"""Running a web server: taking the port, ending on a signal, and never outliving its welcome."""

import asyncio
import errno
import gc
import http.client
import os
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

import psutil
import uvicorn

from api.security import SERVER_NAME, guarded
from api.settings import Settings
from app.doorway import Doorway, House
from core.errors import DeskError

# Requests get this long to end by themselves; then the streams of an open page are cut.
GRACE_SECONDS = 1
# Whatever still hangs after this is ended by force, children included.
LIMIT_SECONDS = 4.5
BACKLOG = 2048
# Longer than clients keep an idle connection (httpx 5 s, Node 4 s, aiohttp 15 s): who closes first
# while the other one sends breaks a request.
KEEPALIVE_SECONDS = 75
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class CannotListen(DeskError):
    """The address is taken, or not ours."""

    code = "cannot_listen"


def listen(settings: Settings) -> socket.socket:
    """A listening socket, so that early visitors wait instead of being refused."""
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # `localhost` has two addresses; everything else of ours speaks of 127.0.0.1.
        family, kind, protocol, _, address = min(found, key=lambda each: each[0])
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _refused(settings, error) from error
    try:
        if os.name != "nt":
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(BACKLOG)
    except OSError as error:
        taken.close()
        raise _refused(settings, error) from error
    return taken


def _refused(settings: Settings, error: OSError) -> CannotListen:
    host, port = settings.host, settings.port
    if error.errno == errno.EADDRINUSE:
        if is_lmdesk(settings.url()):
            return CannotListen(
                f"LM Desk already runs at {settings.url()}.",
                hint=f"Open it there, or start another one with --port {port + 1}.",
            )
        return CannotListen(
            f"Port {port} is taken by another program.",
            hint=f"End that program, or use another port: --port {port + 1}.",
        )
    if error.errno == errno.EACCES:
        return CannotListen(
            f"This user may not listen on port {port}.", hint="Use one above 1023: --port 7860."
        )
    return CannotListen(
        f"The host {host} is not an address of this machine.", hint="Use --host 127.0.0.1."
    )


def is_lmdesk(url: str, *, timeout: float = 5.0) -> bool:
    """Whether an LM Desk answers at this address."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().getheader("server") == SERVER_NAME
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def run_server(
    settings: Settings,
    taken: socket.socket,
    build: Callable[[], House],
    *,
    on_ready: Callable[[], None],
) -> None:
    """Serve what `build` makes until a signal comes. Raises what kept it from starting."""

    def ready() -> None:
        # What is imported now stays; the collector need not walk it again (72 ms a pass with Gradio).
        gc.collect()
        gc.freeze()
        on_ready()

    def give_up() -> None:
        server.should_exit = True

    doorway = Doorway(build, on_ready=ready, on_failure=give_up)
    server = _Server(_config(doorway, settings))
    server.run(sockets=[taken])
    if doorway.failure is not None:
        raise doorway.failure


@asynccontextmanager
async def serving(
    settings: Settings, taken: socket.socket, build: Callable[[], House]
) -> AsyncGenerator[None]:
    """The same within a running loop, from when it is ready until the block is left.

    Signals are the caller's. Raises what kept it from starting.
    """
    opened = asyncio.Event()
    doorway = Doorway(build, on_ready=opened.set, on_failure=opened.set)
    server = _Guest(_config(doorway, settings))
    living = asyncio.create_task(server.serve(sockets=[taken]), name="desk")
    living.add_done_callback(lambda _: opened.set())
    try:
        await opened.wait()
        if doorway.failure is not None:
            raise doorway.failure
        yield
    finally:
        server.should_exit = True
        await living


def _config(doorway: Doorway, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        guarded(doorway, settings),
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEPALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


class _Guest(uvicorn.Server):
    """In a process whose signals are not its own."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class _Server(uvicorn.Server):
    """Ends with the process's own exit status, and surely."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        previous = {each: signal.signal(each, self.handle_exit) for each in SIGNALS}
        try:
            yield
        finally:
            for each, handler in previous.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            backstop = threading.Timer(LIMIT_SECONDS, _end_by_force)
            backstop.daemon = True
            backstop.start()
        super().handle_exit(sig, frame)


def _end_by_force() -> None:
    # Not logged: whatever hangs may hold the logs' lock.
    os.write(2, b"lmdesk: something did not end in time, so it was ended by force\n")
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(1)
