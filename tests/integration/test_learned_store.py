"""What was learned, on the disk: bounded, by model and context, and back after a restart."""

from pathlib import Path

import pytest

from core.learned import Learned
from core.models import LoadRecord
from core.speeds import SpeedRecord
from infrastructure.storage import open_store, sqlite_url
from infrastructure.storage.speeds import KEPT

pytestmark = pytest.mark.anyio


def wrote(pace: float, *, model: str = "lm:m", context: int | None = 4096) -> SpeedRecord:
    return SpeedRecord(
        model_id=model, context_length=context, output_tokens=50, tokens_per_second=pace, at=pace
    )


async def test_of_each_model_and_context_only_the_last_ones_stay(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)) as store:
        await store.speeds.add_speeds([wrote(pace) for pace in range(KEPT + 30)])
        await store.speeds.add_speeds([wrote(1, context=8192), wrote(2, context=None)])
        await store.speeds.add_speeds([wrote(3, model="lm:other"), wrote(4, context=None)])
        await store.speeds.add_speeds([])
        kept = await store.speeds.newest_speeds(1000)
        few = await store.speeds.newest_speeds(2)

    mine = [each for each in kept if (each.model_id, each.context_length) == ("lm:m", 4096)]
    assert [each.tokens_per_second for each in mine] == list(range(KEPT + 29, 29, -1))
    assert len(kept) == KEPT + 4
    assert [each.tokens_per_second for each in few] == [4, 3]


async def test_it_all_comes_back_after_a_restart(tmp_path: Path) -> None:
    load = LoadRecord(model_id="lm:m", context_length=4096, seconds=2.5, ram_bytes=1000, at=9.0)
    async with open_store(sqlite_url(tmp_path)) as store:
        learned = Learned(store.speeds, store.load_history)
        await store.load_history.add_load(load)
        learned.loaded(load)
        learned.note([wrote(40), wrote(44)])
        await learned.aclose()
        before = learned.table()
    async with open_store(sqlite_url(tmp_path)) as store:
        again = Learned(store.speeds, store.load_history)
        await again.open()
        after = again.table()

    assert before == after
    assert after[0].writing_history == (40, 44)
    assert after[0].load_seconds == 2.5
