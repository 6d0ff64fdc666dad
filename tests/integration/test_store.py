"""The chat store against a real database file: every promise of the port."""

from collections.abc import AsyncGenerator
from itertools import count
from pathlib import Path

import anyio
import pytest

from core.chat import Parameters, Role
from core.chats import Message, MessageStatus, ModelTruth, Problem, TurnStats
from core.errors import ChatNotFound, MessageNotFound, StorageError
from core.ports import ChatStore
from infrastructure.storage import SqlChatStore, open_store, sqlite_url

pytestmark = pytest.mark.anyio


class Clock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self._seconds = count(1000)

    def __call__(self) -> float:
        return float(next(self._seconds))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[SqlChatStore]:
    async with open_store(sqlite_url(tmp_path / "data"), clock=Clock()) as opened:
        yield opened


def said(
    chat_id: str,
    message_id: str,
    content: str = "",
    *,
    parent: str | None = None,
    role: Role = "user",
    status: MessageStatus = "done",
) -> Message:
    return Message(
        id=message_id,
        chat_id=chat_id,
        parent_id=parent,
        role=role,
        content=content,
        status=status,
        job_id=f"job-{message_id}" if status == "writing" else None,
        created_at=1.0,
    )


async def chat_with(store: ChatStore, *contents: str, title: str = "") -> str:
    chat = await store.create_chat(title=title)
    parent = None
    for place, content in enumerate(contents):
        message_id = f"{chat.id}-{place}"
        await store.add_messages(
            [said(chat.id, message_id, content, parent=parent)], head_id=message_id
        )
        parent = message_id
    return chat.id


async def found(store: ChatStore, query: str) -> list[str]:
    return [chat.id for chat in (await store.list_chats(query=query)).chats]


async def test_a_new_chat_reads_back_as_it_was_made(store: SqlChatStore) -> None:
    made = await store.create_chat(title="Trip", agent_id="writer", model_id="lmstudio:qwen")

    assert await store.chat(made.id) == made
    assert (made.title, made.agent_id, made.model_id) == ("Trip", "writer", "lmstudio:qwen")
    assert made.created_at == made.updated_at
    assert made.head_id is None
    assert made.running_job_id is None
    assert made.snippet is None


async def test_the_store_fits_the_port(store: SqlChatStore) -> None:
    port: ChatStore = store

    assert (await port.list_chats()).chats == ()


async def test_an_unknown_chat_is_not_found(store: SqlChatStore) -> None:
    with pytest.raises(ChatNotFound):
        await store.chat("nowhere")
    with pytest.raises(ChatNotFound):
        await store.conversation("nowhere")
    with pytest.raises(ChatNotFound):
        await store.update_chat("nowhere", title="x")
    with pytest.raises(ChatNotFound):
        await store.delete_chat("nowhere")
    with pytest.raises(ChatNotFound):
        await store.restore_chat("nowhere")
    with pytest.raises(ChatNotFound):
        await store.add_messages([said("nowhere", "m")], head_id="m")


async def test_chats_come_newest_first_in_pages(store: SqlChatStore) -> None:
    ids = [(await store.create_chat(title=f"Chat {n}")).id for n in range(5)]

    first = await store.list_chats(limit=2)
    last = await store.list_chats(limit=2, offset=4)
    beyond = await store.list_chats(limit=2, offset=9)

    assert [chat.id for chat in first.chats] == [ids[4], ids[3]]
    assert (first.total, first.next_offset) == (5, 2)
    assert [chat.id for chat in last.chats] == [ids[0]]
    assert (last.total, last.next_offset) == (5, None)
    assert (beyond.chats, beyond.total, beyond.next_offset) == ((), 5, None)


async def test_a_new_message_moves_its_chat_up_and_a_new_title_does_not(
    store: SqlChatStore,
) -> None:
    older, newer = await chat_with(store, "one"), await chat_with(store, "two")

    await store.update_chat(older, title="Renamed")
    after_rename = [chat.id for chat in (await store.list_chats()).chats]
    await store.add_messages(
        [said(older, "again", parent=f"{older}-0")],
        head_id="again",
    )
    after_message = [chat.id for chat in (await store.list_chats()).chats]

    assert after_rename == [newer, older]
    assert after_message == [older, newer]


async def test_an_update_changes_what_is_given_and_nothing_else(store: SqlChatStore) -> None:
    chat_id = await chat_with(store, "Hello there")
    await store.update_chat(chat_id, agent_id="writer", parameters=Parameters(temperature=0.5))

    changed = await store.update_chat(chat_id, model_id="ollama:llama3")

    assert changed == await store.chat(chat_id)
    assert changed.agent_id == "writer"
    assert changed.model_id == "ollama:llama3"
    assert changed.parameters == Parameters(temperature=0.5)
    assert changed.title == "Hello there"
    assert changed.head_id == f"{chat_id}-0"


async def test_the_head_must_be_a_message_of_the_same_chat(store: SqlChatStore) -> None:
    mine, other = await chat_with(store, "a", "b"), await chat_with(store, "c")

    with pytest.raises(MessageNotFound):
        await store.update_chat(mine, head_id=f"{other}-0", title="must not stick")
    moved = await store.update_chat(mine, head_id=f"{mine}-0")

    assert moved.head_id == f"{mine}-0"
    assert moved.title == "a"


async def test_a_deleted_chat_is_hidden_until_it_is_restored(store: SqlChatStore) -> None:
    chat_id = await chat_with(store, "findable words")
    await store.delete_chat(chat_id)

    with pytest.raises(ChatNotFound):
        await store.chat(chat_id)
    with pytest.raises(ChatNotFound):
        await store.delete_chat(chat_id)
    assert (await store.list_chats()).total == 0
    assert await found(store, "findable") == []

    restored = await store.restore_chat(chat_id)
    assert restored.deleted_at is None
    assert await found(store, "findable") == [chat_id]
    assert len((await store.conversation(chat_id)).messages) == 1


async def test_purging_removes_only_what_was_deleted_before(store: SqlChatStore) -> None:
    gone, kept, alive = [await chat_with(store, f"tale number {n}") for n in range(3)]
    await store.delete_chat(gone)
    border = (await store.create_chat()).created_at
    await store.delete_chat(kept)

    assert await store.purge_deleted(before=border) == 1

    with pytest.raises(ChatNotFound):
        await store.restore_chat(gone)
    with pytest.raises(MessageNotFound):
        await store.message(gone, f"{gone}-0")
    await store.restore_chat(kept)
    assert set(await found(store, "tale")) == {kept, alive}


async def test_purging_a_very_long_chat_works(store: SqlChatStore) -> None:
    chat = await store.create_chat()
    line = [
        said(chat.id, f"m{n}", f"word {n}", parent=f"m{n - 1}" if n else None) for n in range(3000)
    ]
    await store.add_messages(line, head_id="m2999")
    await store.delete_chat(chat.id)

    assert await store.purge_deleted(before=9e9) == 1
    assert await store.count_by_status("done") == 0


async def test_the_conversation_is_the_branch_to_the_head_with_siblings(
    store: SqlChatStore,
) -> None:
    chat = await store.create_chat()
    await store.add_messages(
        [
            said(chat.id, "q1", "first"),
            said(chat.id, "a1", "answer", parent="q1", role="assistant"),
        ],
        head_id="a1",
    )
    await store.add_messages(
        [said(chat.id, "a2", "better answer", parent="q1", role="assistant")], head_id="a2"
    )
    await store.add_messages([said(chat.id, "q2", "edited first")], head_id="q2")

    edited = await store.conversation(chat.id)
    await store.update_chat(chat.id, head_id="a1")
    original = await store.conversation(chat.id)

    assert [message.id for message in edited.messages] == ["q2"]
    assert edited.messages[0].siblings == ("q1", "q2")
    assert [message.id for message in original.messages] == ["q1", "a1"]
    assert original.messages[1].siblings == ("a1", "a2")
    assert original.chat.head_id == "a1"
    assert await store.message(chat.id, "a2") == (await store.branch(chat.id, "a2"))[-1]


async def test_a_branch_can_be_read_to_any_message(store: SqlChatStore) -> None:
    chat_id = await chat_with(store, "a", "b", "c")

    assert [m.content for m in await store.branch(chat_id, f"{chat_id}-1")] == ["a", "b"]
    assert await store.branch(chat_id, None) == []
    with pytest.raises(MessageNotFound):
        await store.branch(chat_id, "nowhere")


async def test_the_tip_is_the_newest_leaf_below(store: SqlChatStore) -> None:
    chat = await store.create_chat()
    tree = [
        said(chat.id, "root"),
        said(chat.id, "left", parent="root"),
        said(chat.id, "right", parent="root"),
        said(chat.id, "right-leaf", parent="right"),
        said(chat.id, "left-leaf", parent="left"),
    ]
    await store.add_messages(tree, head_id="left-leaf")

    assert await store.tip(chat.id, "root") == "left-leaf"
    assert await store.tip(chat.id, "right") == "right-leaf"
    assert await store.tip(chat.id, "left-leaf") == "left-leaf"
    with pytest.raises(MessageNotFound):
        await store.tip(chat.id, "nowhere")


async def test_messages_are_found_only_in_their_own_chat(store: SqlChatStore) -> None:
    mine, other = await chat_with(store, "a"), await chat_with(store, "b")

    with pytest.raises(MessageNotFound):
        await store.message(mine, f"{other}-0")
    with pytest.raises(MessageNotFound):
        await store.branch(mine, f"{other}-0")
    with pytest.raises(MessageNotFound):
        await store.tip(mine, f"{other}-0")


async def test_messages_are_added_all_or_none(store: SqlChatStore) -> None:
    chat_id = await chat_with(store, "first")
    before = await store.chat(chat_id)
    good = said(chat_id, "good", parent=f"{chat_id}-0")

    with pytest.raises(MessageNotFound):
        await store.add_messages([good, said(chat_id, "orphan", parent="nobody")], head_id="good")
    with pytest.raises(MessageNotFound):
        await store.add_messages([good], head_id="nobody")
    with pytest.raises(StorageError):
        await store.add_messages([good, good], head_id="good")
    with pytest.raises(ValueError, match="one chat"):
        await store.add_messages([good, said("other", "x")], head_id="good")

    assert await store.chat(chat_id) == before
    assert await store.count_by_status("done") == 1


async def test_messages_bring_the_agent_and_the_model_they_were_written_with(
    store: SqlChatStore,
) -> None:
    chat = await store.create_chat(agent_id="writer", model_id="lmstudio:old")
    await store.add_messages([said(chat.id, "q")], head_id="q", model_id="lmstudio:new")

    kept = await store.chat(chat.id)
    assert (kept.agent_id, kept.model_id, kept.head_id) == ("writer", "lmstudio:new", "q")


async def test_a_chat_without_a_title_is_named_by_its_first_user_message(
    store: SqlChatStore,
) -> None:
    chat = await store.create_chat()
    question = said(chat.id, "q", "  Why is\n the sky   blue? ")
    answer = said(chat.id, "a", parent="q", role="assistant", status="writing")
    await store.add_messages([question, answer], head_id="a")

    named = await store.create_chat(title="Mine")
    await store.add_messages([said(named.id, "q2", "Something else")], head_id="q2")
    system = await store.create_chat()
    await store.add_messages([said(system.id, "s", "Be brief", role="system")], head_id="s")

    assert (await store.chat(chat.id)).title == "Why is the sky blue?"
    assert (await store.chat(named.id)).title == "Mine"
    assert (await store.chat(system.id)).title == ""


@pytest.mark.parametrize("content", ["word " * 100, "x" * 5000, "日本語" * 100])
async def test_a_title_made_of_a_long_message_is_short(store: SqlChatStore, content: str) -> None:
    title = (await store.chat(await chat_with(store, content))).title

    assert title.endswith("…")
    assert 30 <= len(title) <= 60


async def test_an_answer_is_kept_while_it_is_written_and_finished_whole(
    store: SqlChatStore,
) -> None:
    chat = await store.create_chat()
    answer = said(chat.id, "a", parent="q", role="assistant", status="writing")
    await store.add_messages([said(chat.id, "q", "Hi"), answer], head_id="a")

    await store.write_text("a", content="Hel", reasoning="thinking")
    partial = await store.message(chat.id, "a")
    running = await store.chat(chat.id)
    whole = answer.model_copy(
        update={
            "content": "Hello",
            "reasoning": "thought",
            "status": "failed",
            "reason": "provider_error",
            "problem": Problem(code="x", message="It broke.", hint="Mend it."),
            "model": ModelTruth(asked="lmstudio:qwen", answered="qwen", got_context=4096),
            "stats": TurnStats(output_tokens=3, tokens_per_second=12.5),
        }
    )
    await store.finish_message(whole)
    await store.write_text("a", content="late", reasoning="late")

    assert (partial.content, partial.reasoning, partial.status) == ("Hel", "thinking", "writing")
    assert running.running_job_id == "job-a"
    assert (await store.list_chats()).chats[0].running_job_id is None
    expected = whole.model_copy(update={"siblings": ("a",)})
    assert await store.message(chat.id, "a") == expected


async def test_the_list_of_chats_says_which_are_being_answered(store: SqlChatStore) -> None:
    quiet = await chat_with(store, "done")
    busy = await store.create_chat()
    await store.add_messages([said(busy.id, "w", status="writing")], head_id="w")

    jobs = {chat.id: chat.running_job_id for chat in (await store.list_chats()).chats}

    assert jobs == {quiet: None, busy.id: "job-w"}


async def test_finishing_a_message_that_is_not_there_is_an_error(store: SqlChatStore) -> None:
    with pytest.raises(MessageNotFound):
        await store.finish_message(said("c", "nowhere"))


async def test_a_turn_can_end_in_a_chat_that_was_deleted_meanwhile(store: SqlChatStore) -> None:
    chat = await store.create_chat()
    answer = said(chat.id, "a", role="assistant", status="writing")
    await store.add_messages([answer], head_id="a")
    await store.delete_chat(chat.id)

    await store.write_text("a", content="still", reasoning="")
    await store.finish_message(answer.model_copy(update={"content": "done", "status": "done"}))

    await store.restore_chat(chat.id)
    assert (await store.conversation(chat.id)).messages[0].content == "done"


async def test_unfinished_messages_become_interrupted_with_their_text(
    store: SqlChatStore,
) -> None:
    chat_id = await chat_with(store, "kept")
    await store.add_messages(
        [said(chat_id, f"w{n}", parent=f"{chat_id}-0", status="writing") for n in range(3)],
        head_id="w0",
    )
    await store.write_text("w1", content="half an elephant", reasoning="")
    assert await store.count_by_status("writing") == 3

    assert await store.mark_interrupted(reason="server_stopped") == 3

    assert await store.mark_interrupted(reason="server_stopped") == 0
    assert await store.count_by_status("writing") == 0
    assert await store.count_by_status("interrupted") == 3
    message = await store.message(chat_id, "w1")
    assert (message.content, message.reason) == ("half an elephant", "server_stopped")
    assert (await store.chat(chat_id)).running_job_id is None
    assert await found(store, "elephant") == [chat_id]


async def test_many_answers_are_written_at_once(store: SqlChatStore) -> None:
    chat = await store.create_chat()
    ids = [f"w{n}" for n in range(128)]
    await store.add_messages([said(chat.id, i, status="writing") for i in ids], head_id="w0")

    async def write(message_id: str) -> None:
        for step in range(5):
            await store.write_text(message_id, content=f"{message_id} {step}", reasoning="")
            assert (await store.message(chat.id, message_id)).content == f"{message_id} {step}"

    async with anyio.create_task_group() as group:
        for message_id in ids:
            group.start_soon(write, message_id)

    for message_id in ids:
        assert (await store.message(chat.id, message_id)).content == f"{message_id} 4"


async def test_a_cancelled_write_cannot_overwrite_the_finished_answer(
    store: SqlChatStore,
) -> None:
    chat = await store.create_chat()
    answer = said(chat.id, "a", status="writing")
    other = said(chat.id, "o", status="writing")
    await store.add_messages([answer, other], head_id="a")

    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.write_text("a", content="old", reasoning="")
    await store.finish_message(answer.model_copy(update={"content": "new", "status": "done"}))
    await store.write_text("o", content="flushes what was left behind", reasoning="")

    assert (await store.message(chat.id, "a")).content == "new"


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d emoji", "\ud83d\ude00 whole", "🦊 ﷽ \u202e"])
async def test_any_text_can_be_written(store: SqlChatStore, text: str) -> None:
    chat = await store.create_chat(title=text)
    await store.add_messages([said(chat.id, "w", status="writing")], head_id="w")

    await store.write_text("w", content=text, reasoning=text)

    message = await store.message(chat.id, "w")
    repaired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert message.content == message.reasoning == repaired
    assert (await store.chat(chat.id)).title == repaired
