"""What is thrown away by itself: runs of chats that are gone, deleted runs, old ones outside of chats."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, func, select, update

from core.errors import StorageError
from core.keeping import DAY_SECONDS, Keeping
from core.runs import RunInfo
from core.runs_errors import RunNotFound
from infrastructure.storage import sqlite_url
from infrastructure.storage.opening import MIGRATIONS
from infrastructure.storage.schema import chats, run_events, run_results, runs
from tests.agent_upstream import Call, Say
from tests.desk import run_desk
from tests.run_bench import RunBench, calls, run_bench

pytestmark = pytest.mark.anyio


async def made(bench: RunBench, *, days: float = 0, **draft: Any) -> RunInfo:
    """A finished run that began so many days ago."""
    bench.tools.says("box.look", "42", read_only=True)
    bench.upstream.plays(Say("I look.", [Call("look")]), Say("It is 42."))
    info = await bench.run(**draft)
    began = time.time() - days * DAY_SECONDS
    async with bench.store.runs._writer.begin() as connection:
        await connection.execute(update(runs).where(runs.c.id == info.id).values(created_at=began))
    return info


async def age(bench: RunBench, info: RunInfo, *, minutes: float) -> None:
    """As if the run had been deleted so long ago."""
    at = time.time() - minutes * 60
    async with bench.store.runs._writer.begin() as connection:
        await connection.execute(update(runs).where(runs.c.id == info.id).values(deleted_at=at))


async def left(bench: RunBench) -> tuple[int, int, int]:
    """How many runs, how many of whose events, and how many of whose results are on the disk."""
    async with bench.store.runs._engine.connect() as connection:
        counts = [
            await connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (runs, run_events, run_results)
        ]
    return counts[0], counts[1], counts[2]


async def kept(bench: RunBench) -> list[str]:
    return [run.id for run in (await bench.runs.page(limit=50, offset=0)).runs]


async def forget_chat(bench: RunBench, chat_id: str, *, days: float) -> None:
    """As if it had been deleted so long ago."""
    await bench.store.delete_chat(chat_id)
    at = time.time() - days * DAY_SECONDS
    async with bench.store.runs._writer.begin() as connection:
        await connection.execute(update(chats).where(chats.c.id == chat_id).values(deleted_at=at))


async def test_the_runs_of_a_chat_go_with_it_and_not_before(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        keeping = Keeping(bench.store, bench.runs, 0)
        chat = await bench.store.create_chat()
        info = await made(bench, days=400, chat_id=chat.id)
        other = await made(bench, days=400)
        assert (await left(bench))[2] == 2

        await forget_chat(bench, chat.id, days=29)
        await keeping.look()
        assert await kept(bench) == [other.id], "the run of a deleted chat is not in the list"
        await bench.store.restore_chat(chat.id)
        assert await kept(bench) == [other.id, info.id]
        assert (await bench.runs.result(info.id, calls(info)[0].id)).text == "42"

        await forget_chat(bench, chat.id, days=31)
        await keeping.look()
        with pytest.raises(RunNotFound):
            await bench.runs.read(info.id)
        assert await kept(bench) == [other.id]
        assert (await left(bench))[0::2] == (1, 1)


async def test_runs_outside_of_chats_are_kept_for_so_many_days(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        chat = await bench.store.create_chat()
        in_chat = await made(bench, days=400, chat_id=chat.id)
        old = await made(bench, days=91)
        young = await made(bench, days=89)

        await Keeping(bench.store, bench.runs, 0).look()
        assert await kept(bench) == [young.id, old.id, in_chat.id]

        await Keeping(bench.store, bench.runs, 90).look()
        assert await kept(bench) == [young.id, in_chat.id]
        assert (await left(bench))[0::2] == (2, 2)


async def test_a_run_under_way_is_never_old(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("Half", hold=asyncio.Event()))
        job = await bench.start()

        assert await bench.runs.purge(keep_seconds=-60.0) == 0

        await bench.runs.stop(job.id)
        assert (await bench.runs.read(job.id)).state == "stopped"
        assert await bench.runs.purge(keep_seconds=-60.0) == 1


async def test_a_deleted_run_can_be_brought_back_until_it_is_thrown_away(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        info = await made(bench)
        keeping = Keeping(bench.store, bench.runs, 90)

        await bench.runs.delete(info.id)
        for _ in range(2):
            with pytest.raises(RunNotFound):
                await bench.runs.read(info.id)
            with pytest.raises(RunNotFound):
                await bench.runs.delete(info.id)
            with pytest.raises(RunNotFound):
                await bench.runs.result(info.id, calls(info)[0].id)
            assert await kept(bench) == []
            await keeping.look()  # not within the hour

        assert await bench.runs.restore(info.id) == info
        assert await bench.runs.read(info.id) == info
        assert await kept(bench) == [info.id]
        assert (await bench.runs.restore(info.id)).state == "done"  # nothing to undo
        await bench.runs.delete(info.id)

        await age(bench, info, minutes=59)
        await keeping.look()
        assert (await left(bench))[0] == 1
        await age(bench, info, minutes=61)
        await keeping.look()
        with pytest.raises(RunNotFound):
            await bench.runs.restore(info.id)
        assert await left(bench) == (0, 0, 0)


async def test_a_restart_takes_no_undo_away_also_the_one_into_this_version(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        info = await made(bench)
        await bench.runs.delete(info.id)
    async with run_bench(tmp_path) as bench:
        await Keeping(bench.store, bench.runs, 90).look()
        assert await bench.runs.restore(info.id) == info
        await bench.runs.delete(info.id)

    engine = create_engine(sqlite_url(tmp_path).replace("+aiosqlite", ""))
    with engine.begin() as connection:  # where nobody wrote down when it was deleted
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.downgrade(config, "0011")
    engine.dispose()
    async with run_bench(tmp_path) as bench:
        await Keeping(bench.store, bench.runs, 90).look()
        assert await bench.runs.restore(info.id) == info

        await bench.runs.delete(info.id)
        await age(bench, info, minutes=61)
    async with run_bench(tmp_path) as bench:
        await Keeping(bench.store, bench.runs, 90).look()
        assert await left(bench) == (0, 0, 0)


async def test_it_looks_at_the_start_every_day_and_when_the_rule_changes(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        info = await made(bench, days=3)
        keeping = Keeping(bench.store, bench.runs, 7)
        task = asyncio.create_task(keeping.run())
        try:
            keeping.follow(2)
            async with asyncio.timeout(20):
                while await kept(bench):
                    await asyncio.sleep(0.01)
            with pytest.raises(RunNotFound):
                await bench.runs.read(info.id)
        finally:
            task.cancel()
        daily = asyncio.create_task(Keeping(bench.store, bench.runs, 2, day_seconds=0.02).run())
        try:
            late = await made(bench, days=3)
            async with asyncio.timeout(20):
                while late.id in await kept(bench):
                    await asyncio.sleep(0.01)
        finally:
            daily.cancel()


async def test_a_disk_that_fails_once_is_no_end_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_bench(tmp_path) as bench:
        await made(bench, days=3)
        real, failed = bench.runs.purge, asyncio.Event()

        async def once(**options: Any) -> int:
            monkeypatch.setattr(bench.runs, "purge", real)
            failed.set()
            raise StorageError("The disk is full.")

        monkeypatch.setattr(bench.runs, "purge", once)
        task = asyncio.create_task(Keeping(bench.store, bench.runs, 2, day_seconds=0.02).run())
        try:
            async with asyncio.timeout(20):
                await failed.wait()
                while await kept(bench):
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()


async def test_over_the_api_runs_are_brought_back_and_days_are_a_setting(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        info = await made(bench, days=3)
        chat = await bench.store.create_chat()
        in_chat = await made(bench, days=3, chat_id=chat.id)

    async with run_desk(tmp_path) as desk:
        url = f"/api/v1/runs/{info.id}"
        assert (await desk.delete(url)).status_code == 204
        assert (await desk.get(url)).status_code == 404
        back = await desk.post(f"{url}/restore")
        assert (back.status_code, back.json()["id"]) == (200, info.id)
        never = await desk.post("/api/v1/runs/nobody/restore")
        assert (never.status_code, never.json()["code"]) == (404, "run_not_found")

        changed = await desk.patch("/api/v1/settings", json={"runs": {"keep_days": 2}})
        assert changed.status_code == 200, changed.text
        async with asyncio.timeout(20):
            while (await desk.get(url)).status_code != 404:
                await asyncio.sleep(0.02)
        assert (await desk.get(f"/api/v1/runs/{in_chat.id}")).status_code == 200
