"""The engine as a child of the API."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from core.errors import ProviderUnreachable
from infrastructure.engine.launcher import EmbeddedEngine
from tests.engine_fixture import alive, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


@pytest.fixture
async def embedded(models_dir: Path) -> AsyncIterator[EmbeddedEngine]:
    engine = EmbeddedEngine([models_dir], None, shared_folders=False, starter=False)
    try:
        yield engine
    finally:
        await engine.stop()


async def _models(engine: EmbeddedEngine, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        return await client.get(f"{engine.url}/v1/models")


async def test_it_starts_once_for_all_who_ask_and_only_its_token_opens_it(
    embedded: EmbeddedEngine,
) -> None:
    assert not embedded.running
    urls = await asyncio.gather(*(embedded.start() for _ in range(3)))
    assert len(set(urls)) == 1
    assert embedded.running
    assert re.fullmatch(r"sk-lm-[A-Za-z0-9]{8}:[A-Za-z0-9]{20}", embedded.token)
    assert (await _models(embedded)).status_code == 401
    listed = await _models(embedded, Authorization=f"Bearer {embedded.token}")
    assert "parrot" in [model["id"] for model in listed.json()["data"]]


async def test_it_is_started_again_after_it_died(embedded: EmbeddedEngine) -> None:
    await embedded.start()
    first = embedded.pid
    assert first
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: not embedded.running)
    await embedded.start()
    assert embedded.pid not in (None, first)


async def test_stop_leaves_no_process(embedded: EmbeddedEngine) -> None:
    await embedded.start()
    pid = embedded.pid
    assert pid
    await embedded.stop()
    assert not embedded.running
    assert embedded.url is None
    assert not alive(pid)


async def test_an_engine_that_cannot_start_says_why() -> None:
    engine = EmbeddedEngine([], None, threads=-1)
    with pytest.raises(ProviderUnreachable, match="threads"):
        await engine.start()
    assert not engine.running
