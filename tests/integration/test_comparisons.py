"""Comparisons: one question to several models, one by one or together, whoever watches."""

import asyncio
from pathlib import Path

import pytest

from core.chats import Chat, Message
from core.comparisons import Column, Comparison
from infrastructure.storage import open_store, sqlite_url
from tests.agent_upstream import Say
from tests.comparing import AT, BOTH, compared, desk_with_two, ended, read, said, states, when
from tests.sockets import until

pytestmark = pytest.mark.anyio


async def test_two_models_on_one_machine_answer_one_by_one(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        hold = asyncio.Event()
        studio.plays(Say("I am the first.", hold=hold), model="first")
        comparison = await compared(desk)

        assert comparison["rounds"][0]["order"] == "one_by_one"
        assert states(comparison) == ["writing", "waiting"]
        assert comparison["now"][1]["waits_for"] == [1]
        assert comparison["now"][0]["job_id"]
        assert comparison["now"][0]["message_id"]
        await until(lambda: studio.open == 1)
        assert [body["model"] for body in studio.bodies] == ["first"]
        hold.set()
        now = await ended(desk, comparison)

        assert states(now) == ["done", "done"]
        assert await said(desk, now, 1) == ["Who are you?", "I am the first."]
        assert await said(desk, now, 2) == ["Who are you?", "I am the second."]
        assert [each["model"]["asked"] for each in now["now"]] == [
            "lmstudio:first",
            "lmstudio:second",
        ]
        assert now["now"][0]["stats"]["time_to_first_token_seconds"] is not None
        assert now["title"] == "Who are you?"


async def test_together_they_are_asked_at_once(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        hold = asyncio.Event()
        studio.plays(Say("One", hold=hold), model="first")
        studio.plays(Say("Two", hold=hold), model="second")
        comparison = await compared(desk, order="together")

        assert states(comparison) == ["writing", "writing"]
        await until(lambda: studio.open == 2)
        hold.set()
        assert states(await ended(desk, comparison)) == ["done", "done"]


async def test_a_column_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        studio.plays(Say(status=400, error={"error": "out of ideas"}), model="first")
        now = await ended(desk, await compared(desk))

        assert states(now) == ["failed", "done"]
        assert "out of ideas" in now["now"][0]["problem"]["message"]

        studio.plays(Say("Better now."), model="first")
        again = await desk.post(f"{AT}/{now['id']}/turns", json={"columns": [1]})
        assert again.status_code == 202, again.text
        assert again.json()["rounds"][-1]["again"] is True
        now = await ended(desk, now)
        assert states(now) == ["done", "done"]
        assert await said(desk, now, 1) == ["Who are you?", "Better now."]


async def test_a_further_question_goes_to_all_or_to_some(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        now = await ended(desk, await compared(desk))
        studio.plays(Say("Still the first."), model="first")
        studio.plays(Say("Still the second."), model="second")
        await desk.post(f"{AT}/{now['id']}/turns", json={"content": "Sure?"})
        now = await ended(desk, now)
        assert await said(desk, now, 2) == [
            "Who are you?",
            "I am the second.",
            "Sure?",
            "Still the second.",
        ]

        studio.plays(Say("Yes."), model="second")
        await desk.post(f"{AT}/{now['id']}/turns", json={"content": "Really?", "columns": [2]})
        now = await ended(desk, now)
        assert len(await said(desk, now, 1)) == 4
        assert (await said(desk, now, 2))[-1] == "Yes."
        assert [each["round"] for each in now["now"]] == [1, 2]


async def test_stopping_ends_what_is_written_and_what_waits(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        studio.plays(Say("Well", hold=asyncio.Event()), model="first")
        comparison = await compared(desk)
        await until(lambda: studio.open == 1)
        stopped = (await desk.post(f"{AT}/{comparison['id']}/stop")).json()

        assert states(stopped) == ["stopped", "stopped"]
        assert stopped["job_id"] is None
        await until(lambda: studio.open == 0)
        assert [body["model"] for body in studio.bodies] == ["first"]


async def test_one_column_can_be_stopped_before_and_while_it_is_answered(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        studio.plays(Say("Well", hold=asyncio.Event()), model="first")
        comparison = await compared(desk)
        await until(lambda: studio.open == 1)
        late = await desk.post(f"{AT}/{comparison['id']}/stop", json={"column": 2})
        assert states(late.json()) == ["writing", "stopped"]
        await desk.post(f"{AT}/{comparison['id']}/stop", json={"column": 1})

        now = await ended(desk, comparison)
        assert states(now) == ["stopped", "stopped"]
        assert [body["model"] for body in studio.bodies] == ["first"]


async def test_a_stopped_column_lets_the_next_one_begin(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        studio.plays(Say("Well", hold=asyncio.Event()), model="first")
        comparison = await compared(desk)
        await until(lambda: studio.open == 1)
        await desk.post(f"{AT}/{comparison['id']}/stop", json={"column": 1})

        assert states(await ended(desk, comparison)) == ["stopped", "done"]


async def test_a_restart_ends_it_as_interrupted_and_keeps_what_is_there(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        studio.plays(Say("Well", hold=asyncio.Event()), model="first")
        comparison = await compared(desk)
        await when(desk, comparison, lambda now: studio.open == 1)
    async with desk_with_two(tmp_path) as (desk, _):
        now = await read(desk, comparison)
        assert states(now) == ["interrupted", "interrupted"]
        again = await desk.post(f"{AT}/{now['id']}/turns", json={})
        assert again.status_code == 202, again.text
        now = await ended(desk, now)
        assert states(now) == ["done", "done"]
        assert await said(desk, now, 2) == ["Who are you?", "I am the second."]


async def test_columns_are_no_chats_until_they_are_kept(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, _):
        now = await ended(desk, await compared(desk))
        assert (await desk.get("/api/v1/chats")).json()["total"] == 0
        assert (await desk.get("/api/v1/chats?q=second")).json()["total"] == 0
        assert (await desk.get(f"{AT}?q=who")).json()["total"] == 1

        kept = (await desk.post(f"{AT}/{now['id']}/columns/2/keep")).json()
        assert [column["kept"] for column in kept["columns"]] == [False, True]
        chats = (await desk.get("/api/v1/chats?q=second")).json()["chats"]
        assert [chat["id"] for chat in chats] == [now["columns"][1]["chat_id"]]
        assert chats[0]["comparison_id"] is None


async def test_a_kept_column_is_asked_as_its_label_says_and_left_out_once_its_chat_is_gone(
    tmp_path: Path,
) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        columns = [BOTH[0], BOTH[1] | {"parameters": {"temperature": 0.0}}]
        now = await ended(desk, await compared(desk, columns=columns))
        await desk.post(f"{AT}/{now['id']}/columns/2/keep")
        chat = f"/api/v1/chats/{now['columns'][1]['chat_id']}"
        await desk.patch(chat, json={"parameters": {"temperature": 1.7}})
        await desk.post(f"{AT}/{now['id']}/turns", json={"content": "Sure?"})
        await ended(desk, now)
        assert (studio.bodies[-1]["model"], studio.bodies[-1]["temperature"]) == ("second", 0.0)

        await desk.delete(chat)
        studio.plays(Say("Once more."), model="first")
        again = await desk.post(f"{AT}/{now['id']}/turns", json={})
        assert again.status_code == 202, again.text
        now = await ended(desk, now)
        assert states(now) == ["done", "gone"]
        assert (await said(desk, now, 1))[-1] == "Once more."
        lost = await desk.post(f"{AT}/{now['id']}/turns", json={"columns": [2]})
        assert (lost.status_code, lost.json()["code"]) == (404, "chat_not_found")


async def test_deleting_takes_its_own_chats_along_and_can_be_undone(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        now = await ended(desk, await compared(desk))
        await desk.post(f"{AT}/{now['id']}/columns/2/keep")
        assert (await desk.delete(f"{AT}/{now['id']}")).status_code == 204
        one, two = (column["chat_id"] for column in now["columns"])

        gone = await desk.get(f"{AT}/{now['id']}")
        assert (gone.status_code, gone.json()["code"]) == (404, "comparison_not_found")
        assert (await desk.get(f"/api/v1/chats/{one}")).status_code == 404
        assert (await desk.get(f"/api/v1/chats/{two}")).status_code == 200
        assert (await desk.get(AT)).json()["total"] == 0

        back = await desk.post(f"{AT}/{now['id']}/restore")
        assert states(back.json()) == ["done", "done"]
        assert (await desk.get(f"/api/v1/chats/{one}")).status_code == 200

        studio.plays(Say("Well", hold=asyncio.Event()), model="first")
        await desk.post(f"{AT}/{now['id']}/turns", json={"content": "More"})
        await until(lambda: studio.open == 1)
        await desk.delete(f"{AT}/{now['id']}")
        await until(lambda: studio.open == 0)


async def test_bad_comparisons_are_refused_before_anything_starts(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        for changed, status, code, said_of in [
            ({"columns": BOTH[:1]}, 422, "bad_columns", "two columns"),
            ({"columns": BOTH * 3}, 422, "bad_columns", "these are 6"),
            ({"content": " "}, 422, "message_empty", "empty"),
            ({"columns": [BOTH[0], {"model_id": "nobody"}]}, 404, "model_not_found", "Column 2"),
            ({"columns": [{"agent_id": "x"}, BOTH[0]]}, 404, "agent_not_found", "Column 1"),
            ({"order": "sideways"}, 422, "bad_parameter", "order"),
        ]:
            refused = await desk.post(AT, json={"content": "Hi", "columns": BOTH} | changed)
            assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
            assert said_of in refused.json()["detail"]
        assert (await desk.get(AT)).json()["total"] == 0
        assert studio.bodies == []

        hold = asyncio.Event()
        studio.plays(Say("Well", hold=hold), model="first")
        comparison = await compared(desk)
        busy = await desk.post(f"{AT}/{comparison['id']}/turns", json={"content": "And?"})
        assert (busy.status_code, busy.json()["code"]) == (409, "comparison_running")
        hold.set()
        await ended(desk, comparison)
        nobody = await desk.post(f"{AT}/{comparison['id']}/turns", json={"columns": []})
        assert (nobody.status_code, nobody.json()["code"]) == (422, "bad_columns")
        assert "No column" in nobody.json()["detail"]
        lost = await desk.post(f"{AT}/{comparison['id']}/turns", json={"columns": [7]})
        assert (lost.status_code, lost.json()["code"]) == (404, "column_not_found")


async def test_the_same_model_can_stand_in_two_columns_as_two_agents(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        studio.plays(Say("Once."), model="first")
        columns = [
            {"agent_id": "coding", "model_id": "first", "parameters": {"temperature": 0.0}},
            {"agent_id": "creative", "model_id": "first"},
        ]
        now = await ended(desk, await compared(desk, columns=columns))

        assert states(now) == ["done", "done"]
        assert [body.get("temperature") for body in studio.bodies] == [0.0, 1.0]
        assert await said(desk, now, 2) == ["Who are you?", "Once."]


async def test_columns_are_not_indexed_by_meaning_until_they_are_kept(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)) as store:
        chat = Chat(id="col", title="", created_at=1.0, updated_at=1.0, comparison_id="c")
        column = Column(number=1, chat_id=chat.id)
        made = Comparison(id="c", title="?", columns=(column,), created_at=1.0, updated_at=1.0)
        await store.comparisons.add_comparison(made, [chat])
        question = Message(id="q", chat_id="col", role="user", content="Why?", created_at=1.0)
        await store.add_messages([question], head_id="q")
        index = store.message_index
        assert await index.unindexed("s", limit=9) == []

        await store.comparisons.release_chat("col")
        assert await index.unindexed("s", limit=9) == [("q", "Why?")]
        await index.keep_messages("s", {"q": (1.0, 0.0)})
        found = await index.similar_chats("s", (1.0, 0.0), "why", limit=9)
        assert [each.id for each in found] == ["col"]


async def test_a_deleted_agent_is_named_with_what_can_be_done_and_can_come_back(
    tmp_path: Path,
) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        await desk.post("/api/v1/agents", json={"name": "Sec"})
        columns = [{"agent_id": "sec", "model_id": "first"}, {"model_id": "second"}]
        now = await ended(desk, await compared(desk, columns=columns))
        await desk.delete("/api/v1/agents/sec")
        asked = {"content": "Sure?", "columns": [1, 2]}
        refused = await desk.post(f"{AT}/{now['id']}/turns", json=asked)

        assert (refused.status_code, refused.json()["code"]) == (404, "agent_not_found")
        assert refused.json()["detail"].startswith("Column 1: There is no agent 'sec'")
        assert "General" in refused.json()["hint"]
        assert "general" not in refused.json()["hint"]
        assert "brought back" in refused.json()["hint"]
        assert "the other columns" in refused.json()["hint"]
        studio.plays(Say("Sure."), model="second")
        await desk.post(f"{AT}/{now['id']}/turns", json={"content": "Sure?"})
        now = await ended(desk, now)
        assert [part["column"] for part in now["rounds"][-1]["parts"]] == [2]
        assert (await said(desk, now, 2))[-1] == "Sure."

        await desk.post("/api/v1/agents/sec/restore", json={"version": 1})
        studio.plays(Say("I am back."), model="first")
        await desk.post(f"{AT}/{now['id']}/turns", json={"content": "You?", "columns": [1]})
        now = await ended(desk, now)
        assert (await said(desk, now, 1))[-1] == "I am back."
