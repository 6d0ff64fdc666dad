"""What the sidebar says of a search: how it was made, and under which heading each chat stands."""

from app.ui import chat_view
from app.wording import searched
from core.chats import Chat, ChatPage

NOW = 1_000_000.0


def chat(score: float | None) -> Chat:
    return Chat(id="c", title="Lisbon", created_at=NOW, updated_at=NOW, score=score)


def group(score: float | None, mode_used: str | None) -> str:
    view = chat_view(chat(score), now=NOW, utc_offset=0, mode_used=mode_used)
    return str(view["group"])


def test_a_search_by_meaning_tells_words_from_meaning() -> None:
    assert group(None, "semantic") == "With these words"
    assert group(0.8, "semantic") == "Similar in meaning"


def test_other_lists_go_by_day() -> None:
    assert group(None, "text") == "Today"
    assert group(None, None) == "Today"


def test_the_list_says_how_it_was_searched() -> None:
    empty = ChatPage(chats=(), total=0)
    by = "lmstudio:nomic-ai/nomic-embed-text"

    assert searched(empty) == ""
    assert searched(empty.model_copy(update={"mode_used": "text"})) == "By words"
    semantic = empty.model_copy(update={"mode_used": "semantic", "searched_with": by})
    assert searched(semantic) == "By words and by meaning, with nomic-embed-text"
