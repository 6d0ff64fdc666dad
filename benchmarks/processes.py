"""Real processes for a measurement: each is started, waited for, and ended with its family."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.sockets import free_port

HOUSE = Path(__file__).parents[1]
ENVIRONMENT = {
    # Nothing of this machine's own settings, and never its proxies.
    **{name: value for name, value in os.environ.items() if not name.upper().startswith("LMDESK_")},
    "PYTHONPATH": f"{HOUSE / 'src'}{os.pathsep}{HOUSE}",
    "NO_PROXY": "*",
}
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Running(NamedTuple):
    """A server process."""

    url: str
    process: subprocess.Popen[bytes]
    started: float
    """Monotonic seconds."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def get(self, path: str) -> Any:
        """A JSON answer."""
        return get_json(self.url + path)


def get_json(url: str) -> Any:
    """A JSON answer; raises OSError for anything but a success."""
    with _OPENER.open(url, timeout=10) as answer:
        return json.loads(answer.read())


def wait_for(url: str, process: subprocess.Popen[bytes], *, seconds: float = 60.0) -> float:
    """Monotonic seconds of the first successful answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the process ended with {process.returncode}")
        try:
            with _OPENER.open(url, timeout=5):
                return time.monotonic()
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise RuntimeError(f"{url} did not answer in {seconds} s")


@contextmanager
def upstream(**options: Any) -> Generator[Running]:
    """The scripted LM Studio; options are those of `benchmarks.upstream`."""
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.upstream", *given]
    with running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        started = time.monotonic()
        url = process.stdout.readline().decode().strip()
        yield Running(url, process, started)


@contextmanager
def desk(
    data_dir: Path, *arguments: str, lmstudio: str, embedded: str = "off", ready: bool = True
) -> Generator[Running]:
    """The real `lmdesk` command, with a port and a data folder of its own."""
    port = free_port()
    settings = {
        "LMDESK_DATA_DIR": str(data_dir),
        "LMDESK_LMSTUDIO_URL": lmstudio,
        "LMDESK_EMBEDDED": embedded,
        "LMDESK_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "app", *arguments, "--port", str(port)]
    started = time.monotonic()
    # There, no .env or lmdesk.yaml of this checkout is read.
    with running(command, stdout=subprocess.DEVNULL, more=settings, cwd=data_dir) as process:
        url = f"http://127.0.0.1:{port}"
        if ready:
            wait_for(f"{url}/readyz", process)
        yield Running(url, process, started)


@contextmanager
def server(module: str, *arguments: str) -> Generator[Running]:
    """A server module of this folder, which takes its port as the first argument."""
    port = free_port()
    command = [sys.executable, "-m", module, str(port), *arguments]
    started = time.monotonic()
    with running(command, stdout=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/livez", process)
        yield Running(url, process, started)


def ask(module: str, *arguments: str, seconds: float) -> Any:
    """What a module of this folder prints as JSON, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=ENVIRONMENT,
        cwd=HOUSE,
        stdout=subprocess.PIPE,
        timeout=seconds,
        check=True,
    )
    return json.loads(done.stdout)


def show(module: str, *arguments: str) -> None:
    """Run a module of this folder in a process of its own; what it prints is shown."""
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, env=ENVIRONMENT, cwd=HOUSE, check=True)


@contextmanager
def running(
    command: list[str],
    *,
    stdout: int,
    stderr: int | None = None,
    more: dict[str, str] | None = None,
    cwd: Path = HOUSE,
) -> Generator[subprocess.Popen[bytes]]:
    """Any program, ended with its family at the end."""
    environment = {**ENVIRONMENT, **(more or {})}
    process = subprocess.Popen(command, env=environment, cwd=cwd, stdout=stdout, stderr=stderr)
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    children = []
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in psutil.wait_procs(children, timeout=5)[1]:
        child.kill()
    if process.stdout is not None:
        process.stdout.close()
