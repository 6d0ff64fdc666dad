"""Bringing the starter model: only when there is nothing else, and told as it happens."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from api.starter import EngineWithStarter
from core.errors import ProviderRejected
from core.jobs import Job, JobService
from core.library import ModelLibrary
from tests.fakes import FakeProvider

pytestmark = pytest.mark.anyio


class FakeEngine:
    running = True
    token = "t"

    async def start(self) -> str:
        return "http://127.0.0.1:1"

    async def stop(self) -> None:
        return None


async def brought(provider: FakeProvider, fractions: Iterator[float]) -> Job:
    jobs = JobService()
    engine = EngineWithStarter(
        FakeEngine(), jobs, model_id="embedded:starter", fetch=lambda: fractions
    )
    engine.library = ModelLibrary([provider], jobs)
    await engine.start()
    (job,) = jobs.list(kind="download")
    await job.ended.wait()
    return job


async def test_with_a_model_at_hand_nothing_is_fetched() -> None:
    def never() -> Iterator[float]:
        raise AssertionError("fetched")
        yield 0.0

    job = await brought(FakeProvider("mine", name="embedded"), never())

    assert job.state == "done"
    assert [event.type for event in job.log.read(0)] == ["job.end"]


async def test_without_one_the_download_tells_how_far_it_is() -> None:
    job = await brought(FakeProvider(name="embedded"), iter([0.2, 0.7, 1.0]))
    progress = [e.data["progress"] for e in job.log.read(0) if e.type == "download.progress"]

    assert (job.state, progress) == ("done", [0.0, 0.2, 0.7, 1.0])


async def test_a_download_that_fails_says_why() -> None:
    def failing() -> Iterator[float]:
        yield 0.1
        raise ProviderRejected("The download failed.", hint="Check the network.")

    job = await brought(FakeProvider(name="embedded"), failing())

    assert job.error is not None
    assert job.error.message == "The download failed."


async def test_stopping_waits_for_the_step_under_way_and_tidies_up() -> None:
    stepping, go, closed = threading.Event(), threading.Event(), threading.Event()

    def slow() -> Iterator[float]:
        try:
            yield 0.1
            stepping.set()
            go.wait(10)
            yield 0.2
        finally:
            closed.set()

    jobs = JobService()
    engine = EngineWithStarter(FakeEngine(), jobs, model_id="embedded:s", fetch=slow)
    engine.library = ModelLibrary([FakeProvider(name="embedded")], jobs)
    await engine.start()
    (job,) = jobs.list(kind="download")
    await asyncio.to_thread(stepping.wait, 10)
    job.request_end("stopped", "user")
    go.set()
    await job.ended.wait()

    assert job.state == "stopped"
    assert closed.is_set()
