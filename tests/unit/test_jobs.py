"""Jobs: they end once, tell how, and belong to nobody who watches."""

import asyncio
from contextlib import aclosing

import pytest

from core.errors import JobNotFound, NotEnoughMemory
from core.eventlog import Event
from core.jobs import Job, JobService

pytestmark = pytest.mark.anyio


async def collected(job: Job, *, after: int = 0) -> list[Event]:
    async with aclosing(job.watch(after=after)) as batches:
        return [event async for batch in batches for event in batch]


async def test_every_watcher_sees_all_events_and_the_end() -> None:
    async def work(job: Job) -> None:
        job.emit("model_load.start")
        for piece in ("a", "b"):
            job.text("message.delta", piece)
            await asyncio.sleep(0)

    job = JobService().start(Job("turn"), work)
    first, second = await asyncio.gather(collected(job), collected(job))

    for events in (first, second):
        text = "".join(e.data["content"] for e in events if e.type == "message.delta")
        assert (events[0].type, text, events[-1].type) == ("model_load.start", "ab", "job.end")
        assert events[-1].data["status"] == "done"


async def test_a_watcher_who_comes_late_gets_everything_and_one_who_resumes_the_rest() -> None:
    async def work(job: Job) -> None:
        job.text("message.delta", "a")
        job.text("message.delta", "b")

    job = JobService().start(Job("turn"), work)
    await job.ended.wait()

    assert [e.number for e in await collected(job)] == [2, 3]
    assert [e.data.get("content") for e in await collected(job, after=1)] == ["b", None]
    assert await collected(job, after=3) == []


async def test_leaving_a_watch_does_not_end_the_job() -> None:
    go = asyncio.Event()

    async def work(job: Job) -> None:
        job.emit("notice")
        await go.wait()

    job = JobService().start(Job("turn"), work)
    async with aclosing(job.watch()) as batches:
        await anext(batches)
    assert job.state == "running"

    go.set()
    await job.ended.wait()
    assert job.state == "done"


async def test_a_silent_job_ticks() -> None:
    job = JobService().start(Job("turn"), lambda job: asyncio.Event().wait())
    async with aclosing(job.watch(tick=0.01)) as batches:
        assert await anext(batches) == []
    job.request_end("stopped", "user")
    await job.ended.wait()


async def test_stopping_lets_the_work_keep_what_it_has_and_says_so() -> None:
    jobs, kept = JobService(), []

    async def work(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            kept.append("text")
            job.result = {"kept": True}

    job = jobs.start(Job("turn"), work)
    await asyncio.sleep(0)
    stopped = await jobs.stop(job.id)
    end = (await collected(job))[-1]

    assert kept == ["text"]
    assert stopped.state == "stopped"
    assert end.data["status"] == "stopped"
    assert end.data["result"] == {"kept": True}


async def test_a_known_error_is_the_last_event_with_its_code() -> None:
    async def work(job: Job) -> None:
        raise NotEnoughMemory("It needs 24 GB; 8 GB is free.", hint="Unload another model.")

    job = JobService().start(Job("load"), work)
    end = (await collected(job))[-1].data

    assert end["status"] == "failed"
    assert end["error"] == {
        "code": "not_enough_memory",
        "message": "It needs 24 GB; 8 GB is free.",
        "hint": "Unload another model.",
    }


async def test_an_unforeseen_error_is_a_calm_sentence_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(job: Job) -> None:
        raise ZeroDivisionError("secret detail")

    job = JobService().start(Job("turn"), work)
    error = (await collected(job))[-1].data["error"]

    assert error["code"] == "internal"
    assert "secret detail" not in str(error)
    assert "secret detail" in caplog.text


async def test_closing_interrupts_what_runs() -> None:
    jobs = JobService()
    job = jobs.start(Job("turn"), lambda job: asyncio.Event().wait())
    await asyncio.sleep(0)
    await jobs.aclose()

    assert (job.state, job.info.reason) == ("interrupted", "server_stopped")


async def test_an_unknown_job_is_named() -> None:
    with pytest.raises(JobNotFound, match="'nope'"):
        JobService().get("nope")
