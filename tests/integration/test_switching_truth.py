"""What is reported of loads and unloads against what is: other profiles, every quirk, cancels, sizes."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.hardware import GpuDriver, HardwareSnapshot
from infrastructure.engine import quirks
from infrastructure.hardware.processes import resident
from tests import tinygguf
from tests.engine_fixture import RunningEngine, alive
from tests.switchboard import Switchboard, switchboard, until

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

WORDS = {"ant": (" ant", " ape", " asp"), "bee": (" bee", " boa", " bat")}
TOKENS = 60
WAYS = [
    pytest.param("0.4", None, id="0.4"),
    pytest.param("0.3", None, id="0.3"),
    pytest.param("0.3", "no-websocket", id="0.3-no-websocket"),
    *(pytest.param("0.4", quirk, id=quirk) for quirk in quirks.NAMES),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, words in WORDS.items():
        tinygguf.parrot(folder / f"{name}.gguf", words, name=name, loop=True)
    tinygguf.truncated(folder / "broken.gguf")
    return folder


class Auditor:
    """Does something through the desk, and looks for itself whether it is so."""

    def __init__(self, board: Switchboard, profile: str) -> None:
        self.board = board
        self.profile = profile

    async def in_memory(self) -> set[str]:
        """Models, from the engine's own list of this profile; there is a process for each."""
        if self.profile == "0.4":
            really = set(await self.board.really_loaded())
        else:
            listed = (await self.board.other.get("/api/v0/models")).json()["data"]
            really = {entry["id"] for entry in listed if entry["state"] == "loaded"}
        assert len(self.board.engine.children()) == len(really)
        return really

    async def load(self, name: str) -> bool:
        body = {"model_id": f"lmstudio:{name}"}
        answer = await self.board.desk.post("/api/v1/models/load?wait=false", json=body)
        return await self._loaded(await self.board.ended(answer.json()["id"]), name)

    async def swap(self, name: str, out: str) -> bool:
        before = await self.in_memory()
        body = {"model_id": f"lmstudio:{name}", "unload": [f"lmstudio:{out}"], "when": "now"}
        answer = await self.board.desk.post("/api/v1/models/swap", json=body)
        job = await self.board.ended(answer.json()["id"])
        done = await self._loaded(job, name)
        assert (out in await self.in_memory()) == (out in before and not done)
        return done

    async def _loaded(self, job: dict[str, Any], name: str) -> bool:
        done = bool(job["state"] == "done")
        assert (name in await self.in_memory()) == done, job
        if not done:
            assert job["state"] == "failed"
            assert job["error"]["code"] != "internal"
            assert job["error"]["message"]
        return done

    async def unload(self, name: str) -> bool:
        answer = await self.board.desk.post(
            "/api/v1/models/unload", json={"model_id": f"lmstudio:{name}"}
        )
        told = answer.json()
        assert told["message"]
        if not told["success"]:
            assert told["code"] not in (None, "internal")
        assert (name in await self.in_memory()) == (not told["success"]), told
        return bool(told["success"])

    async def ask(self, name: str, *, long: bool = False) -> dict[str, Any]:
        """The answer; whole and of this model, or with a reason."""
        chat = await self.board.desk.chat()
        turn = await self.board.desk.ask(
            chat,
            "word " * 5000 if long else "Hi",
            model_id=f"lmstudio:{name}",
            parameters={"max_tokens": TOKENS},
        )
        await self.board.ended(turn["job_id"])
        message = await self.board.desk.last_message(chat)
        if message["status"] == "done":
            assert message["content"] == "".join(WORDS[name]) * (TOKENS // 3)
        else:
            assert message["problem"]["message"], message
            assert message["problem"]["code"] != "internal"
        return message


@pytest.mark.parametrize(("profile", "quirk"), WAYS)
async def test_what_is_reported_is_so_and_what_is_not_so_has_a_reason(
    models: Path, tmp_path: Path, profile: str, quirk: str | None
) -> None:
    arguments = ("--quirk", quirk) if quirk else ()
    async with switchboard(models, tmp_path, profile=profile, arguments=arguments) as board:
        audit = Auditor(board, profile)
        can_load = quirk not in ("load-lies", "guardrail-refuses")
        can_unload = not (profile == "0.3" and quirk == "no-websocket")

        assert await audit.load("ant") == can_load or quirk == "load-lies"
        assert not await audit.load("broken")
        both = await asyncio.gather(audit.ask("ant"), audit.ask("ant"))
        overflow = await audit.ask("ant", long=True)
        assert await audit.swap("bee", "ant") == (can_load and can_unload) or not can_load
        assert await audit.unload("bee")
        assert await audit.unload("ant") == can_unload

    assert overflow["status"] == "failed"
    if can_load:
        assert [message["status"] for message in both] == ["done", "done"]


# -- a load that takes a while -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("big")
    tinygguf.big(folder / "big.gguf", 2.0)
    return folder


def memory_of(engine: RunningEngine) -> int:
    """Bytes that the engine and its models hold."""
    count = 0
    for pid in (engine.pid, *engine.children()):
        try:
            count += psutil.Process(pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return count


async def test_two_gigabytes_load_with_a_moving_bar_and_a_cancel_gives_everything_back(
    big: Path, tmp_path: Path
) -> None:
    async with switchboard(big, tmp_path) as board:
        body = {"model_id": "lmstudio:big"}
        before = memory_of(board.engine)
        started = await board.desk.post("/api/v1/models/load?wait=false", json=body)
        job_id = started.json()["id"]

        async def halfway() -> bool:
            return bool(((await board.job(job_id))["progress"] or 0.0) >= 0.5)

        await until(halfway, seconds=120)
        (process,) = board.engine.children()
        assert memory_of(board.engine) > before + 2**29
        cancelled = time.monotonic()
        stopped = (await board.desk.post(f"/api/v1/jobs/{job_id}/stop")).json()
        assert stopped["state"] == "stopped"
        assert await board.really_loaded() == {}
        assert not alive(process)
        assert board.engine.children() == []
        assert time.monotonic() - cancelled < 2.0
        assert memory_of(board.engine) - before < 0.05 * 2 * 2**30

        again = await board.desk.post("/api/v1/models/load?wait=false", json=body)
        events = await board.desk.events(again.json()["id"])
        assert events[-1]["status"] == "done"
        assert await board.really_loaded() == {"big": ["big"]}

    moves = [e["progress"] for e in events if e["type"] == "model_load.progress"]
    assert moves == sorted(moves)
    assert len({each for each in moves if 0 < each < 1}) >= 10


# -- what models take --------------------------------------------------------------------------------

SIZES = {"s32": 32, "s64": 64, "s128": 128, "s256": 256, "s512": 512}


class EngineProbe:
    """A machine on which nothing but the engine's models takes memory.

    The other programs of a real one come and go by more than the 10 % that are to be shown.
    """

    def __init__(self) -> None:
        self.engine: RunningEngine | None = None

    def sample(self) -> HardwareSnapshot:
        return HardwareSnapshot(
            at=time.time(),
            cpu_percent=0.0,
            cpu_count=2,
            memory_used=2**30 + (models_take(self.engine) if self.engine else 0),
            memory_total=16 * 2**30,
            swap_used=0,
            swap_total=0,
            driver=GpuDriver(state="no_library", message="No NVIDIA driver."),
        )

    def resident(self, pids: Sequence[int]) -> dict[int, int]:
        return resident(pids)

    def close(self) -> None:
        return None


def models_take(engine: RunningEngine) -> int:
    """Bytes of the model processes."""
    return sum(psutil.Process(pid).memory_info().rss for pid in engine.children())


@pytest.fixture
async def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Switchboard]:
    for name, mib in SIZES.items():
        tinygguf.parrot(tmp_path / "models" / f"{name}.gguf", name=name, ballast_mib=mib)
    probe = EngineProbe()
    monkeypatch.setattr("api.wiring.open_probe", lambda _: probe)
    async with switchboard(tmp_path / "models", tmp_path / "data") as board:
        probe.engine = board.engine
        yield board


async def test_after_the_first_load_a_plan_is_within_ten_percent_of_what_is_measured(
    measured: Switchboard,
) -> None:
    board = measured

    async def plan(name: str) -> dict[str, Any]:
        asked = {"model_id": f"lmstudio:{name}"}
        answer: dict[str, Any] = (await board.desk.get("/api/v1/models/plan", params=asked)).json()
        return answer

    async def learned(name: str) -> bool:
        return bool((await plan(name))["need_source"] == "learned")

    for name in SIZES:
        body = {"model_id": f"lmstudio:{name}"}
        before = await plan(name)
        assert before["need_source"] in ("server", "estimated")
        monitor = board.services.monitor
        await monitor.after(await monitor.latest())  # or what has just gone would be in the way
        await board.desk.post("/api/v1/models/load", json=body)
        await until(lambda name=name: learned(name))
        await board.desk.post("/api/v1/models/unload", json=body)
        assert board.engine.children() == []

        await board.desk.post("/api/v1/models/load", json=body)
        took = models_take(board.engine)
        planned = await plan(name)
        await board.desk.post("/api/v1/models/unload", json=body)
        assert planned["need_bytes"] == pytest.approx(took, rel=0.1)
        assert planned["last_load_seconds"] > 0
