"""Comparisons: which question a column gets, whatever came before it or comes at the same time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.turn_plan import TurnPlan
from core.turns import StartedTurn, TurnService
from tests.agent_upstream import Say
from tests.comparing import AT, BOTH, compared, desk_with_two, ended, said, states
from tests.sockets import until

pytestmark = pytest.mark.anyio


async def test_after_a_stopped_round_a_column_answers_the_question_it_has(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        now = await ended(desk, await compared(desk))
        turns = f"{AT}/{now['id']}/turns"
        studio.plays(Say("Four."), model="first")
        await desk.post(turns, json={"content": "Only for one: 2+2?", "columns": [1]})
        await ended(desk, now)

        studio.plays(Say("Again", hold=asyncio.Event()), model="first")
        again = (await desk.post(turns, json={})).json()
        assert [each["question"] for each in again["now"]] == ["Only for one: 2+2?", "Who are you?"]
        await until(lambda: studio.open == 1)
        await desk.post(f"{AT}/{now['id']}/stop")
        studio.plays(Say("Still the second."), model="second")
        again = (await desk.post(turns, json={"columns": [2]})).json()
        assert again["rounds"][-1]["content"] == "Who are you?"
        await ended(desk, now)

        assert await said(desk, now, 2) == ["Who are you?", "Still the second."]
        assert [each["content"] for each in studio.bodies[-1]["messages"]][1:] == ["Who are you?"]


async def test_a_further_question_that_never_reached_a_column_is_put_to_it_then(
    tmp_path: Path,
) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        now = await ended(desk, await compared(desk))
        turns = f"{AT}/{now['id']}/turns"
        studio.plays(Say("Well", hold=asyncio.Event()), model="first")
        for body in ({"content": "Sure?"}, {}):
            await desk.post(turns, json=body)
            await until(lambda: studio.open == 1)
            await desk.post(f"{AT}/{now['id']}/stop")
            await until(lambda: studio.open == 0)
        studio.plays(Say("Quite."), model="second")
        await desk.post(turns, json={"columns": [2]})
        await ended(desk, now)

        assert await said(desk, now, 2) == ["Who are you?", "I am the second.", "Sure?", "Quite."]


async def test_of_two_questions_at_the_same_time_each_keeps_its_own_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, slow, checking = TurnService.check, asyncio.Event(), asyncio.Event()

    async def check(self: TurnService, chat: Any, draft: Any) -> TurnPlan:
        if draft.content == "Slow?":
            checking.set()
            await slow.wait()
        return await real(self, chat, draft)

    monkeypatch.setattr(TurnService, "check", check)
    async with desk_with_two(tmp_path) as (desk, studio):
        now = await ended(desk, await compared(desk))
        turns = f"{AT}/{now['id']}/turns"
        later = asyncio.create_task(desk.post(turns, json={"content": "Slow?"}))
        await checking.wait()
        await desk.post(turns, json={"content": "Quick?"})
        quick = await ended(desk, now)
        slow.set()
        assert (await later).status_code == 202
        now = await ended(desk, now)

        assert [each["content"] for each in now["rounds"]] == ["Who are you?", "Quick?", "Slow?"]
        assert now["rounds"][1] == quick["rounds"][1]
        assert [each["question"] for each in now["now"]] == ["Slow?", "Slow?"]
        assert states(now) == ["done", "done"]

        slow.clear()
        checking.clear()
        hold = asyncio.Event()
        studio.plays(Say("Well", hold=hold), model="first")
        later = asyncio.create_task(desk.post(turns, json={"content": "Slow?"}))
        await checking.wait()
        await desk.post(turns, json={"content": "Quick?"})
        slow.set()
        refused = await later
        assert (refused.status_code, refused.json()["code"]) == (409, "comparison_running")
        hold.set()
        assert len((await ended(desk, now))["rounds"]) == 4


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_comparison_can_be_stopped_while_its_first_question_is_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, deleted: bool
) -> None:
    real, gate, asking = TurnService.start, asyncio.Event(), asyncio.Event()

    async def start(self: TurnService, chat_id: str, draft: Any) -> StartedTurn:
        asking.set()
        await gate.wait()
        return await real(self, chat_id, draft)

    monkeypatch.setattr(TurnService, "start", start)
    async with desk_with_two(tmp_path) as (desk, studio):
        studio.plays(Say("Well", hold=asyncio.Event()), model="first")
        asked = asyncio.create_task(desk.post(AT, json={"content": "Hi", "columns": BOTH}))
        await asking.wait()
        (listed,) = (await desk.get(AT)).json()["comparisons"]
        assert listed["running"] is True
        at = f"{AT}/{listed['id']}"
        end = desk.delete(at) if deleted else desk.post(f"{at}/stop")
        ending = asyncio.create_task(end)
        ended_job = (await desk.get(at)).json()["job_id"]
        assert (await desk.get(f"/api/v1/jobs/{ended_job}")).json()["kind"] == "comparison"
        gate.set()

        assert (await ending).is_success, (await ending).text
        await asked
        assert (await desk.get(f"/api/v1/jobs/{ended_job}")).json()["state"] == "stopped"
        if not deleted:
            assert states((await desk.get(at)).json()) == ["stopped", "stopped"]
        assert all(body["model"] == "first" for body in studio.bodies)
