"""The loop's library is imported once it is needed, whatever becomes of the run that needed it first."""

import asyncio
import importlib
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infrastructure.loop import PydanticLoop

DEADLINE = 30.0


def test_a_run_that_ends_during_the_import_spoils_no_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slowly(name: str) -> Any:
        begun.set()
        assert may_end.wait(DEADLINE)

        async def run(spec: Any, host: Any) -> str:
            return f"{spec} with {name}"

        return SimpleNamespace(run=run)

    monkeypatch.setattr(importlib, "import_module", slowly)
    loop = PydanticLoop()

    async def impatient() -> None:
        run = asyncio.create_task(loop.run(cast(Any, "First"), cast(Any, None)))
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        run.cancel()
        await asyncio.wait([run])
        may_end.set()

    asyncio.run(impatient())

    async def patient() -> str:
        async with asyncio.timeout(DEADLINE):
            return await loop.run(cast(Any, "Second"), cast(Any, None))

    assert asyncio.run(patient()) == "Second with infrastructure.loop.engine"
