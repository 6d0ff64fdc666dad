"""Finds chats by words, and the place where a chat matched.

Any text is a good query: words go to the full-text index in quotes, so nothing in them is an
operator, and what the index cannot find (emoji, and scripts that write no spaces) is looked for in
the text itself.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Integer,
    String,
    and_,
    column,
    func,
    literal_column,
    or_,
    select,
    table,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from infrastructure.storage.rows import storable
from infrastructure.storage.schema import chats

# Each word is a subquery, and SQLite bounds their number and the length of a pattern.
MAX_WORDS = 24
MAX_LENGTH = 500
EXCERPT_BEFORE = 40
EXCERPT_LENGTH = 120

# Japanese, Chinese, Thai, Lao, Khmer and Myanmar: the index takes a whole run for one word.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)
_search = table(
    "search", column("rowid", Integer), column("text", String), column("chat_id", String)
)


class Word(NamedTuple):
    """One word of a query, as the index (`match`) or as a pattern for the text (`like`) wants it."""

    plain: str
    match: str | None
    like: str | None


def words_of(query: str) -> list[Word]:
    """The words to look for, the last as a prefix; empty when there is nothing to look for."""
    plain = storable(query).replace("\0", " ")[:MAX_LENGTH].split()
    plain = plain[: MAX_WORDS - 1] + plain[MAX_WORDS - 1 :][-1:]
    indexed = [word for word in plain if _is_indexed(word)]
    unspaced = [word for word in plain if _UNSPACED.search(word)]
    # Lone punctuation counts only when there is nothing else to go by.
    wanted = [word for word in plain if word in indexed or word in unspaced] or plain
    return [_word(word, last=place == len(wanted) - 1) for place, word in enumerate(wanted)]


def matching(words: Sequence[Word]) -> list[ColumnElement[bool]]:
    """Conditions on `chats`: every word is in the title or in some finished message."""
    return [chats.c.id.in_(select(_search.c.chat_id).where(_has(word))) for word in words]


async def snippets(
    connection: AsyncConnection, words: Sequence[Word], chat_ids: Sequence[str]
) -> dict[str, str]:
    """For each of these chats a place that matches, in the newest message rather than the title."""
    found: dict[str, str] = {}
    for condition in (_all_of(words), _any_of(words)) if words else ():
        missing = [chat_id for chat_id in chat_ids if chat_id not in found]
        if not missing:
            break
        is_title = _search.c.rowid % 2
        best = (
            select(
                func.coalesce(
                    func.max(_search.c.rowid).filter(is_title == 0), func.max(_search.c.rowid)
                )
            )
            .where(condition, _search.c.chat_id.in_(missing))
            .group_by(_search.c.chat_id)
        )
        texts = select(_search.c.chat_id, _search.c.text).where(_search.c.rowid.in_(best))
        for row in await connection.execute(texts):
            found[row.chat_id] = excerpt(row.text, words)
    return found


def _is_indexed(word: str) -> bool:
    return not _UNSPACED.search(word) and any(unicodedata.category(c)[0] in "LN" for c in word)


def _word(word: str, *, last: bool) -> Word:
    if _is_indexed(word):
        quoted = '"' + word.replace('"', '""') + '"'
        return Word(word, quoted + ("*" if last else ""), None)
    escaped = re.sub(r"([\\%_])", r"\\\1", word)
    return Word(word, None, f"%{escaped}%")


def _has(word: Word) -> ColumnElement[bool]:
    return _matches(word.match) if word.match else _contains(word.like)


def _all_of(words: Sequence[Word]) -> ColumnElement[bool]:
    """One text has all the words."""
    indexed = " AND ".join(word.match for word in words if word.match)
    others = [_contains(word.like) for word in words if word.like]
    return and_(*([_matches(indexed)] if indexed else []), *others)


def _any_of(words: Sequence[Word]) -> ColumnElement[bool]:
    indexed = " OR ".join(word.match for word in words if word.match)
    others = [_contains(word.like) for word in words if word.like]
    # The index can be asked beside other conditions, but not as one of several alternatives.
    hits = [_search.c.rowid.in_(select(_search.c.rowid).where(_matches(indexed)))]
    return or_(*(hits if indexed else []), *others)


def _matches(expression: str) -> ColumnElement[bool]:
    return literal_column("search", String).op("MATCH", is_comparison=True)(expression)


def _contains(pattern: str | None) -> ColumnElement[bool]:
    return _search.c.text.like(pattern, escape="\\")


def excerpt(content: str, words: Sequence[Word]) -> str:
    """The surroundings of the first place a word is found, on one line."""
    folded = _folded(content)
    places = [place for word in words if (place := _place(folded, _folded(word.plain))) >= 0]
    start = max(min(places, default=0) - EXCERPT_BEFORE, 0)
    end = start + EXCERPT_LENGTH
    line = " ".join(content[start:end].split())
    return ("…" if start else "") + line + ("…" if end < len(content) else "")


def _place(text: str, word: str) -> int:
    """Where the word begins; the index splits at signs, so its first part alone may be there."""
    starts = re.search(rf"(?<!\w){re.escape(word)}", text)
    if starts is not None:
        return starts.start()
    part = re.search(r"\w+", word)
    starts = re.search(rf"(?<!\w){part.group()}", text) if part else None
    return starts.start() if starts else text.find(word)


def _folded(text: str) -> str:
    """Lower case without accents, each character in its old place."""
    if text.isascii():
        return text.lower()
    return "".join(unicodedata.normalize("NFD", char)[0].lower()[0] for char in text)
