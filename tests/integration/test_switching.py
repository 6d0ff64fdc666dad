"""Switching models against the real engine, with a second client that pulls models from under answers."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import tinygguf
from tests.switchboard import Switchboard, switchboard, until

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

# Each says its own words round and round, so that a word of another model stands out.
WORDS = {
    "ant": (" ant", " ape", " asp"),
    "bee": (" bee", " boa", " bat"),
    "cat": (" cat", " cow", " cod"),
}
NAMES = tuple(WORDS)
TOKENS = 300


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, words in WORDS.items():
        tinygguf.parrot(folder / f"{name}.gguf", words, name=name, loop=True)
    return folder


@pytest.fixture(scope="module")
async def board(
    models: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Switchboard]:
    async with switchboard(models, tmp_path_factory.mktemp("data")) as running:
        yield running


# -- a hundred interleavings -------------------------------------------------------------------------

models_of_three = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("send"), models_of_three),
    st.tuples(st.just("send"), models_of_three),
    st.tuples(st.just("load"), models_of_three),
    st.tuples(st.just("unload"), models_of_three, st.booleans()),
    st.tuples(st.just("swap"), models_of_three, models_of_three, st.sampled_from(["idle", "now"])),
    st.tuples(st.just("stop"), st.integers(0, 5)),
    st.tuples(st.just("evict"), models_of_three),
    st.tuples(st.just("pause"), st.sampled_from([0.01, 0.05, 0.2])),
)


class Interleaving:
    """One row of steps, each begun whether or not those before have ended."""

    def __init__(self, board: Switchboard) -> None:
        self.board = board
        self.turns: list[dict[str, Any]] = []
        self.jobs: list[str] = []
        self.calls: list[asyncio.Task[httpx.Response]] = []

    async def run(self, row: list[tuple[Any, ...]]) -> None:
        for step, *arguments in row:
            await getattr(self, step)(*arguments)
        async with asyncio.timeout(60):
            for call in self.calls:
                answer = await call
                # Refused for a reason, or done; never an error of ours.
                assert answer.status_code in {200, 202, 409}, (answer.status_code, answer.text)
            for job_id in self.jobs:
                await self.board.ended(job_id)

    async def send(self, name: str) -> None:
        turn = await self.board.ask(name, TOKENS)
        self.turns.append(turn)
        self.jobs.append(turn["job_id"])

    async def load(self, name: str) -> None:
        body = {"model_id": f"lmstudio:{name}"}
        answer = await self.board.desk.post("/api/v1/models/load?wait=false", json=body)
        self.jobs.append(answer.json()["id"])

    async def unload(self, name: str, force: bool) -> None:
        body = {"model_id": f"lmstudio:{name}", "force": force}
        self._call(self.board.desk.post("/api/v1/models/unload", json=body))

    async def swap(self, name: str, out: str, when: str) -> None:
        body = {"model_id": f"lmstudio:{name}", "unload": [f"lmstudio:{out}"], "when": when}
        answer = await self.board.desk.post("/api/v1/models/swap", json=body)
        assert answer.status_code == 202, answer.text
        self.jobs.append(answer.json()["id"])

    async def stop(self, which: int) -> None:
        if which < len(self.jobs):
            self._call(self.board.desk.post(f"/api/v1/jobs/{self.jobs[-1 - which]}/stop"))

    async def evict(self, name: str) -> None:
        await self.board.evict(name)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _call(self, call: Awaitable[httpx.Response]) -> None:
        self.calls.append(asyncio.ensure_future(call))

    # What must hold afterwards.

    async def check(self) -> None:
        await self._check_models()
        for turn in self.turns:
            await self._check_turn(turn)

    async def _check_models(self) -> None:
        await until(self._all_ended)  # a swap that was stopped brings the old one back
        services = self.board.services
        for model in await services.library.models():
            assert services.library.leased_by(model) == [], "a lease was not given back"
            assert model.state in ("loaded", "not-loaded")
        really = await self.board.really_loaded()
        assert all(len(ids) == 1 for ids in really.values()), really
        assert await self.board.said_loaded() == really
        assert len(self.board.engine.children()) == len(really)

    async def _all_ended(self) -> bool:
        return (await self.board.desk.get("/api/v1/jobs?state=running")).json() == []

    async def _check_turn(self, turn: dict[str, Any]) -> None:
        message = await self.board.message(turn)
        events = await self.board.desk.events(turn["job_id"])
        heard = "".join(e["content"] for e in events if e["type"] == "message.delta")
        job = await self.board.job(turn["job_id"])
        words = "".join(WORDS[turn["model"]])
        whole = words * (TOKENS // 3)
        assert whole.startswith(message["content"]), "text of another model, or with a hole"
        assert message["status"] == job["state"]
        assert message["content"] == heard, "text was heard that was not kept"
        match message["status"]:
            case "done":
                assert message["content"] == whole
                truth = message["model"]
                assert truth["answered"] == truth["instance_id"]
                assert truth["answered"].partition(":")[0] == turn["model"]
            case "stopped":
                assert message["reason"] == "user"
            case "interrupted":
                assert message["reason"] in {"model_unloaded", "model_changed"}, message
            case _:
                assert message["problem"]["message"], message


@pytest.mark.timeout(600)
@settings(
    max_examples=100,
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(row=st.lists(steps, min_size=4, max_size=7))
async def test_no_interleaving_mixes_loses_doubles_or_hangs(
    board: Switchboard, row: list[tuple[Any, ...]]
) -> None:
    interleaving = Interleaving(board)
    await interleaving.run(row)
    await interleaving.check()


# -- a model pulled from under its answer ------------------------------------------------------------


async def test_an_eviction_mid_answer_is_told_within_a_second_and_the_answer_goes_on_anew(
    board: Switchboard,
) -> None:
    await board.empty()
    turn = await board.ask("ant", tokens=1_000_000)
    await until(lambda: _has_text(board, turn))
    assert await board.evict("ant")
    evicted = time.monotonic()
    job = await board.ended(turn["job_id"])
    took = time.monotonic() - evicted
    message = await board.message(turn)

    assert took < 1.0
    assert (job["state"], job["reason"]) == ("interrupted", "model_unloaded")
    assert (message["status"], message["reason"]) == ("interrupted", "model_unloaded")
    assert message["content"].startswith(" ant ape asp ant")
    assert "taken out of memory" in message["problem"]["message"]
    again = await board.desk.post(
        f"/api/v1/chats/{turn['chat_id']}/turns",
        json={"parent_id": turn["user_message_id"], "parameters": {"max_tokens": 3}},
    )
    assert (await board.ended(again.json()["job_id"]))["state"] == "done"
    assert (await board.message(turn))["content"] == " ant ape asp"
    assert (await board.message(turn))["siblings"][0] == turn["message_id"]


async def test_a_model_that_somebody_just_took_out_is_loaded_again_not_believed_in(
    board: Switchboard,
) -> None:
    await board.empty()
    for begin in (_load_now, _ask_now):
        await _load_now(board)
        assert await board.evict("bee")
        job = await begin(board)
        assert job["state"] == "done"
        assert await board.really_loaded() == {"bee": ["bee"]}
        events = await board.desk.events(job["id"])
        assert any(event["type"] == "model_load.progress" for event in events)
        await board.empty()


async def _load_now(board: Switchboard) -> dict[str, Any]:
    body = {"model_id": "lmstudio:bee"}
    answer = await board.desk.post("/api/v1/models/load?wait=false", json=body)
    return await board.ended(answer.json()["id"])


async def _ask_now(board: Switchboard) -> dict[str, Any]:
    return await board.ended((await board.ask("bee", tokens=3))["job_id"])


async def _has_text(board: Switchboard, turn: dict[str, Any]) -> bool:
    return bool((await board.message(turn))["content"])
