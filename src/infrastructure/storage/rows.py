"""Between table rows and the core's values."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import RowMapping

from core.chats import Chat, Message

TITLE_LENGTH = 60


def chat_from(row: RowMapping, *, snippet: str | None = None) -> Chat:
    """A chat from a row with all its columns and `running_job_id`."""
    return Chat.model_validate({name: row[name] for name in _CHAT_COLUMNS} | {"snippet": snippet})


def chat_columns(chat: Chat) -> dict[str, Any]:
    """What the table keeps of a chat."""
    return chat.model_dump(mode="json", exclude={"running_job_id", "snippet", "score"})


def message_from(row: RowMapping, siblings: Sequence[str] = ()) -> Message:
    """A message from a row with all its columns."""
    return Message.model_validate(
        {name: row[name] for name in _MESSAGE_COLUMNS} | {"siblings": siblings}
    )


def message_columns(message: Message) -> dict[str, Any]:
    """What the table keeps of a message; siblings follow from the tree."""
    return message.model_dump(mode="json", exclude={"siblings"})


def families(tree: Iterable[RowMapping]) -> dict[str | None, list[str]]:
    """Children's ids by their parent, in order of birth, from rows in that order."""
    children: dict[str | None, list[str]] = {}
    for node in tree:
        children.setdefault(node["parent_id"], []).append(node["id"])
    return children


def storable(text: str) -> str:
    """The text with halves of surrogate pairs joined or replaced, which UTF-8 cannot hold.

    Servers that cut an emoji in two while streaming produce them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def title_from(content: str) -> str:
    """A title made of a message's first words."""
    words = " ".join(content[: TITLE_LENGTH * 20].split())
    if len(words) <= TITLE_LENGTH:
        return words
    head = words[: TITLE_LENGTH - 1]
    whole_words, _, _ = head.rpartition(" ")
    # One endless word, such as an address, is cut where it is.
    return (whole_words if len(whole_words) > TITLE_LENGTH // 2 else head).rstrip() + "…"


_CHAT_COLUMNS = tuple(name for name in Chat.model_fields if name not in ("snippet", "score"))
_MESSAGE_COLUMNS = tuple(name for name in Message.model_fields if name != "siblings")
