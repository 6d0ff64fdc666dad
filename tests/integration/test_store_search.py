"""Searching chats: what is found, and that nothing a person types is an error."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infrastructure.storage import SqlChatStore
from tests.integration.test_store import chat_with, found, said, store

__all__ = ["store"]

pytestmark = pytest.mark.anyio


async def test_words_are_found_in_titles_and_messages(store: SqlChatStore) -> None:
    titled = await chat_with(store, title="Holiday in Norway")
    spoken = await chat_with(store, "Hello", "Tell me about NORWAY's fjords", title="Travel")
    await chat_with(store, "Nothing of the kind", title="Other")

    page = await store.list_chats(query="norway")

    assert [chat.id for chat in page.chats] == [spoken, titled]
    assert page.total == 2
    assert page.chats[0].snippet == "Tell me about NORWAY's fjords"
    assert page.chats[1].snippet == "Holiday in Norway"


async def test_every_word_must_be_somewhere_in_the_chat(store: SqlChatStore) -> None:
    both = await chat_with(store, "the asyncio loop", title="Python")
    await chat_with(store, "the asyncio loop", title="Rust")

    assert await found(store, "python asyncio") == [both]


async def test_only_the_last_word_may_be_unfinished(store: SqlChatStore) -> None:
    chat_id = await chat_with(store, "quantum mechanics explained")

    assert await found(store, "quantum mech") == [chat_id]
    assert await found(store, "quant mechanics") == []


async def test_case_and_accents_do_not_matter(store: SqlChatStore) -> None:
    chat_id = await chat_with(store, "Où est le CAFÉ?")

    assert await found(store, "cafe") == [chat_id]


@pytest.mark.parametrize("query", ["🦊", "日本", "本語", "C++", "100%", "_", 'say "hi"', "don't"])
async def test_emoji_scripts_without_spaces_and_signs_are_found(
    store: SqlChatStore, query: str
) -> None:
    chat_id = await chat_with(store, '🦊 日本語 C++ 100% a_b say "hi" and don\'t')
    await chat_with(store, "plain words")

    page = await store.list_chats(query=query)

    assert [chat.id for chat in page.chats] == [chat_id]
    assert page.chats[0].snippet


async def test_a_message_being_written_is_found_when_it_is_finished(store: SqlChatStore) -> None:
    chat = await store.create_chat()
    answer = said(chat.id, "a", status="writing", role="assistant")
    await store.add_messages([answer], head_id="a")
    await store.write_text("a", content="a rhinoceros", reasoning="secret thoughts")
    during = await found(store, "rhinoceros")

    await store.finish_message(
        answer.model_copy(
            update={"content": "a rhinoceros", "reasoning": "secret thoughts", "status": "done"}
        )
    )

    assert during == []
    assert await found(store, "rhinoceros") == [chat.id]
    assert await found(store, "secret") == []


async def test_a_renamed_chat_is_found_by_its_new_title_alone(store: SqlChatStore) -> None:
    chat = await store.create_chat(title="Walrus")
    await store.update_chat(chat.id, title="Penguin")

    assert await found(store, "walrus") == []
    assert await found(store, "penguin") == [chat.id]


async def test_a_snippet_is_one_line_around_the_place(store: SqlChatStore) -> None:
    filler = "lorem\n\nipsum " * 60
    await chat_with(store, f"{filler} **the\nneedle** {filler}", title="x")
    await chat_with(store, f"{filler} 針 {filler}", title="y")

    for query in ("needle", "針"):
        snippet = (await store.list_chats(query=query)).chats[0].snippet
        assert snippet is not None
        assert query in snippet
        assert "\n" not in snippet
        assert len(snippet) < 200


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("zebra crossing", "a zebra there"),
        ("crossing zebra 日本", "a zebra there"),
        ("cafe", "CAFÉ"),
    ],
)
async def test_a_snippet_shows_a_word_even_when_no_message_has_them_all(
    store: SqlChatStore, query: str, place: str
) -> None:
    chat_id = await chat_with(
        store, "crossing roads", "filler " * 50 + "Le CAFÉ", "a zebra there", title="日本"
    )

    (chat,) = (await store.list_chats(query=query)).chats

    assert chat.id == chat_id
    assert chat.snippet is not None
    assert place in chat.snippet


async def test_blank_queries_list_everything(store: SqlChatStore) -> None:
    await chat_with(store, "one")
    await chat_with(store, "two")

    page = await store.list_chats(query=" \t\n")

    assert page.total == 2
    assert page.chats[0].snippet is None


@pytest.mark.parametrize(
    "query",
    ['"', '""', 'a"b', 'a" OR "b', "a\0b", "*", "AND", "a AND", "NOT", "OR OR", "NEAR(a b)", "(", "text:x", "^a", "-a", "a*b",
     "'; DROP TABLE chats; --", "\0", "\ud83d", "%", "\\", "🎉🎉", "​", "a " * 5000, "x" * 100_000,
     "%" * 100_000],
)  # fmt: skip
async def test_no_query_is_an_error(store: SqlChatStore, query: str) -> None:
    await chat_with(store, "a AND b")

    assert (await store.list_chats(query=query)).total in (0, 1)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(query=st.text(max_size=40))
async def test_no_text_at_all_is_an_error(store: SqlChatStore, query: str) -> None:
    assert (await store.list_chats(query=query)).total >= 0
