"""Comparisons: which question a column gets when it is asked again, after whatever came between."""

import asyncio
from pathlib import Path

import pytest

from tests.agent_upstream import Say
from tests.comparing import AT, compared, desk_with_two, ended, said
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
