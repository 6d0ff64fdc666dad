"""Tool servers for tests: real ones from npm and PyPI, a scripted one, and a box around them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.tool_server import ToolServer
from core.tool_servers import ToolServers
from infrastructure.tools import ChoiceFile, ConfigFiles, KeyFile, ToolDoor
from tests import node
from tests.sockets import until

NPM = {
    name: f"@modelcontextprotocol/server-{name}@2026.8.31"
    for name in ("filesystem", "memory", "everything", "sequential-thinking")
}
PYPI = {
    "time": "mcp-server-time==2026.10.19",
    "git": "mcp-server-git==2026.10.19",
    "fetch": "mcp-server-fetch==2026.10.24",
}
SCRIPTED = Path(__file__).with_name("scripted_tools.py")
INSTALL_SECONDS = 170


def npm_servers(folder: Path) -> dict[str, str]:
    """The commands of the npm servers, installed into this folder unless they are there.

    Each is a script that names its Node.js: the tests bring their own, which is not on the path.
    """
    install = [*node.npm(), "install", *node.QUIET, "--prefix", str(folder), *NPM.values()]
    _install_once(folder, [install])
    commands = {}
    for name in NPM:
        script = (
            folder.absolute()
            / "node_modules/@modelcontextprotocol"
            / f"server-{name}"
            / "dist/index.js"
        )
        command = folder / f"mcp-server-{name}"
        command.write_text(f"#!{node.node()}\nimport({json.dumps(script.as_uri())});\n")
        command.chmod(0o755)
        commands[name] = str(command)
    return commands


def pypi_servers(folder: Path) -> dict[str, str]:
    """The commands of the PyPI servers, each in an environment of its own in this folder."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name, wanted in PYPI.items():
        home = folder / name
        python = str(home / "bin" / "python")
        if uv is not None:
            steps = [
                [uv, "venv", "-q", "--allow-existing", "-p", sys.executable, str(home)],
                [uv, "pip", "install", "-q", "-p", python, wanted],
            ]
        else:
            steps = [
                [sys.executable, "-m", "venv", str(home)],
                [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wanted],
            ]
        _install_once(home, steps)
    return {name: str(folder / name / "bin" / f"mcp-server-{name}") for name in PYPI}


def _install_once(folder: Path, steps: list[list[str]]) -> None:
    done = folder / "installed"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        try:
            ran = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"{step[-1]} cannot be installed: {error}")
        if ran.returncode:
            pytest.skip(f"{step[-1]} cannot be installed: {(ran.stderr or ran.stdout)[-300:]}")
    done.touch()


def scripted(**plan: Any) -> dict[str, Any]:
    """The entry of a server that does what the plan says; see `scripted_tools.py`."""
    return {"command": sys.executable, "args": ["-I", "-S", str(SCRIPTED), json.dumps(plan)]}


class Box(ToolServers):
    """Tool servers on a folder of the test's own."""

    def __init__(
        self,
        folder: Path,
        others: tuple[Path, ...] = (),
        *,
        keys: KeyFile | None = None,
        **more: Any,
    ) -> None:
        self.folder = folder
        self.file = folder / "mcp.json"
        super().__init__(
            ConfigFiles(self.file, others),
            ChoiceFile(folder / "tool-servers.json"),
            ToolDoor(folder / "logs", keys),
            **more,
        )

    def write(self, servers: Mapping[str, Any]) -> None:
        """What our own mcp.json says from now on."""
        self.file.write_text(json.dumps({"mcpServers": servers}))

    async def say_yes(self, name: str) -> ToolServer:
        """Trust it as it is now."""
        return await self.trust(name, (await self.server(name)).hash)


@asynccontextmanager
async def box(folder: Path, servers: Mapping[str, Any], **more: Any) -> AsyncGenerator[Box]:
    """A box whose servers are trusted. At its end no process of theirs is left."""
    before = _children()
    made = Box(folder, **more)
    made.write(servers)
    for name in servers:
        await made.say_yes(name)
    try:
        yield made
    finally:
        await made.aclose()
    await until(lambda: not _children() - before)


def _children() -> set[int]:
    found = psutil.Process().children(recursive=True)
    return {each.pid for each in found if each.is_running()}


def processes(part: str) -> list[psutil.Process]:
    """Descendants of this test with this text in their command line."""
    found = []
    for each in psutil.Process().children(recursive=True):
        try:
            if part in " ".join(each.cmdline()):
                found.append(each)
        except psutil.Error:
            continue
    return found
