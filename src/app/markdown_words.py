"""Words of a rendered text: where its addresses may lead, and what stands instead of an image."""

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

REACHABLE = re.compile(r"(?:https?://|mailto:)[^\s]", re.I)
# An address among words, without the signs that end the sentence.
BARE = re.compile(r"(?<![\w/])https?://[^\s<>\"`]*[^\s<>\"`.,;:!?'*_~)\]}]", re.I)
MAX_NAMED_CHARS = 200
BOXES = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}


class Words:
    """One text's inline tokens, one list after the other."""

    def __init__(self, markdown: MarkdownIt) -> None:
        self._markdown = markdown

    def tamed(self, tokens: list[Token], *, item: bool) -> list[Token]:
        """The same, with links that open a new tab, and only to where one may go. `item`: they begin
        an item of a list, which may have a box to tick."""
        if item and tokens and tokens[0].type == "text":
            tokens[0].content = _ticked(tokens[0].content)
        return list(self._tamed(tokens))

    def _tamed(self, tokens: list[Token]) -> Iterator[Token]:
        inside: list[str] = []  # where the links lead that this is in; links hold no links
        for token in tokens:
            if token.type == "link_open":
                inside.append(str(token.attrGet("href") or ""))
                if _reachable(inside[-1]):
                    yield _link(inside[-1])
            elif token.type == "link_close":
                href = inside.pop()
                yield token if _reachable(href) else _text(_named(href))
            elif token.type == "image":
                yield from self._image(token, linked=bool(inside))
            elif token.type == "text" and not inside:
                yield from self._bare(token)
            else:
                yield token

    def _image(self, token: Token, *, linked: bool) -> Iterator[Token]:
        """A link with its words, instead of fetching anything."""
        src = str(token.attrGet("src") or "")
        words = "".join(_plain(token.children or [])).strip()
        if linked or not _reachable(src):
            yield _text(words + ("" if linked else _named(src)))
        else:
            yield from (_link(src), _text(words or src), Token("link_close", "a", -1))

    def _bare(self, token: Token) -> Iterator[Token]:
        end = 0
        text = token.content
        for found in BARE.finditer(text):
            href = self._markdown.normalizeLink(_balanced(text, found))
            if not _reachable(href):
                continue
            stop = found.start() + len(_balanced(text, found))
            yield from (_text(text[end : found.start()]), _link(href))
            yield from (_text(text[found.start() : stop]), Token("link_close", "a", -1))
            end = stop
        yield _text(text[end:])


def _balanced(text: str, found: re.Match[str]) -> str:
    """With the bracket that it opened itself, as in `https://example.org/Heat_(physics)`."""
    address = found[0]
    if text[found.end() : found.end() + 1] == ")" and address.count("(") > address.count(")"):
        return f"{address})"
    return address


def _plain(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        yield from _plain(token.children) if token.children else (token.content,)


def _ticked(text: str) -> str:
    box = BOXES.get(text[:4])
    return text if box is None else box + text[4:]


def _reachable(href: str) -> bool:
    return REACHABLE.match(href) is not None


def _named(href: str) -> str:
    """An address that leads nowhere from here, behind what it was said of."""
    cut = href if len(href) <= MAX_NAMED_CHARS else f"{href[:MAX_NAMED_CHARS]}…"
    return f" ({cut})" if cut else ""


def _link(href: str) -> Token:
    attrs: dict[str, str | int | float] = {
        "href": href,
        "target": "_blank",
        "rel": "noopener noreferrer",
    }
    return Token("link_open", "a", 1, attrs=attrs)


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)
