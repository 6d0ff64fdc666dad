"""What models take, read from the processes of the built-in engine while the machine is noisy."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import tinygguf
from tests.desk import DeskUnderTest, run_desk
from tests.sockets import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

MODEL = "embedded:big"
MIB = 2**20
NOISE = 400 * MIB


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await found():
            await asyncio.sleep(0.05)


async def listed(desk: DeskUnderTest) -> dict[str, Any]:
    models = (await desk.get("/api/v1/models/", params={"refresh": True})).json()
    return {each["full_name"]: each for each in models}


async def parts(desk: DeskUnderTest) -> list[dict[str, Any]]:
    """The model's parts of all bars, which add up."""
    bars = (await desk.get("/api/v1/models/memory")).json()["bars"]
    for bar in bars:
        whole = sum(each["bytes"] for each in bar["slices"]) + bar["other"] + bar["free"]
        assert whole == bar["total"]
    return [each for bar in bars for each in bar["slices"] if each["model_id"] == MODEL]


async def test_a_model_is_shown_and_learned_as_its_process_has_it_whatever_else_moves(
    tmp_path: Path,
) -> None:
    tinygguf.parrot(tmp_path / "models" / "big.gguf", name="big", ballast_mib=160)
    here = {"embedded": "always", "lmstudio_url": f"http://127.0.0.1:{free_port()}"}
    async with run_desk(tmp_path, models_dir=tmp_path / "models", **here) as desk:

        async def there() -> bool:
            return MODEL in await listed(desk)

        await until(there)
        loading = asyncio.create_task(
            desk.post("/api/v1/models/load", json={"model_id": MODEL}, timeout=120)
        )
        noise = bytes(1) * NOISE  # another program, as far as the machine's own figures tell
        answer = await loading
        assert answer.status_code < 300, answer.text
        (instance,) = (await listed(desk))[MODEL]["instances"]
        child = psutil.Process(instance["pid"])
        assert len(noise) == NOISE

        async def learned() -> bool:
            asked = {"model_id": MODEL}
            plan = (await desk.get("/api/v1/models/plan", params=asked)).json()
            if plan["need_source"] != "learned":
                return False
            assert plan["need_bytes"] == pytest.approx(child.memory_info().rss, rel=0.1)
            return True

        await until(learned)
        (part,) = await parts(desk)
        assert (part["source"], part["pids"]) == ("process", [child.pid])
        assert part["bytes"] == pytest.approx(child.memory_info().rss, rel=0.1)

        child.kill()

        async def gone() -> bool:
            return not (await listed(desk))[MODEL]["loaded"] and await parts(desk) == []

        await until(gone)
