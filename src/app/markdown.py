"""What a model wrote as Markdown, as HTML that can be put into the page.

Why it is safe to insert, though a model, or a page that it read, may have meant harm:

* No HTML of the text is HTML: `html` is off and its rules are not enabled, so every `<` and `&` comes
  out escaped. Tags come from the rules named below alone, and of their attributes only `KEPT` go out.
* Links go to `http:`, `https:` and `mailto:` and nowhere else, into a new tab that learns nothing of
  this one. Whatever else an address is, it is shown as text.
* Nothing is fetched by looking at it: an image is a link with its words. An address in an image could
  carry away what the model has read, without a click. (Nor are the hosts of links looked up: see
  api.security.HEADERS.)
* The page's Content-Security-Policy allows no foreign scripts, handlers in attributes, nor images from
  elsewhere, should all of that fail.

It is stricter than the chats, whose Chatbot shows images of this machine and relative links.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from app.markdown_rules import formula, formulas, measured_table, named_tags
from app.markdown_words import Words

# Some 15,000 tokens, read in well under a second. Longer texts are shown as they are written.
MAX_CHARS = 60_000
# Results that are kept, in characters of text and HTML together.
KEPT_CHARS = 4_000_000
RULES = (
    *("blockquote", "code", "fence", "heading", "hr", "lheading", "list", "reference", "table"),
    *("autolink", "backticks", "emphasis", "entity", "escape", "image", "link", "newline"),
    *("strikethrough", "balance_pairs", "fragments_join", "text_join"),
)
KEPT = ("href", "target", "rel", "start", "style", "class")
# The dialog's title is h2, and h3 what says that this is the answer.
FIRST_HEADING = 4
LAST_HEADING = 6


def rendered(text: str, *, headings: bool = False) -> str:
    """The text as HTML, see above. Without `headings` they are bold lines: what stands in steps of a
    list is no part of the page's outline. Texts above MAX_CHARS are not read as Markdown."""
    if not text.strip():
        return ""
    found = _kept.get((text, headings))
    if found is None:
        found = _as_html(text, headings=headings)
        _kept.add((text, headings), found)
    return found


def _as_html(text: str, *, headings: bool) -> str:
    if len(text) > MAX_CHARS:
        return f'<p class="plain">{escape(text)}</p>'
    return str(_markdown().render(text, {"headings": headings}))


@cache
def _markdown() -> MarkdownIt:
    """Only what is enabled here works: a newer version of the library brings nothing by itself."""
    markdown = MarkdownIt("zero", {"html": False, "breaks": True, "maxNesting": 20}).enable(RULES)
    markdown.block.ruler.at("table", measured_table, {"alt": ["paragraph", "reference"]})
    markdown.block.ruler.before(
        "table", "formula", formula, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    markdown.inline.ruler.before("escape", "formulas", formulas)
    markdown.inline.ruler.before("escape", "named_tags", named_tags)
    markdown.core.ruler.after("text_join", "desk", _tamed)
    for name in ("fence", "code_block", "formula_block"):
        markdown.add_render_rule(name, _block)
    markdown.add_render_rule("formula", _formula)
    markdown.add_render_rule("table_open", _table)
    markdown.add_render_rule("table_close", _table_end)
    return markdown


def _tamed(state: StateCore) -> None:
    """Headings below the page's own, addresses only where they may lead, few attributes."""
    words = Words(state.md)
    open_levels: list[int] = []
    for number, token in enumerate(state.tokens):
        if token.type == "heading_open":
            _lower(token, open_levels, headings=bool(state.env.get("headings")))
        elif token.type == "heading_close":
            token.tag = _tag_of_opening(state.tokens, number)
        elif token.type == "inline":
            token.children = words.tamed(token.children or [], item=_begins_item(state, number))
            for child in token.children:
                _strip(child)
        _strip(token)


def _lower(token: Token, open_levels: list[int], *, headings: bool) -> None:
    """One deeper than the heading it is under, so that no level is skipped."""
    level = int(token.tag[1])
    while open_levels and open_levels[-1] >= level:
        open_levels.pop()
    open_levels.append(level)
    if headings:
        token.tag = f"h{min(FIRST_HEADING + len(open_levels) - 1, LAST_HEADING)}"
    else:
        token.tag = "p"
        token.attrSet("class", "heading")


def _tag_of_opening(tokens: list[Token], number: int) -> str:
    # A heading is three tokens: its opening, its words, its end.
    return tokens[number - 2].tag


def _begins_item(state: StateCore, number: int) -> bool:
    return number > 1 and state.tokens[number - 2].type == "list_item_open"


def _strip(token: Token) -> None:
    if token.attrs:
        token.attrs = {name: value for name, value in token.attrs.items() if name in KEPT}


# How the rest is written. What scrolls can have the focus, so that keys alone can scroll it.

_Tokens = Sequence[Token]


def _block(_: Any, tokens: _Tokens, number: int, options: OptionsDict, env: EnvType) -> str:
    kind = ' class="formula"' if tokens[number].type == "formula_block" else ""
    return f'<pre tabindex="0"{kind}><code>{escape(tokens[number].content)}</code></pre>\n'


def _formula(_: Any, tokens: _Tokens, number: int, options: OptionsDict, env: EnvType) -> str:
    return f'<code class="formula">{escape(tokens[number].content)}</code>'


def _table(_: Any, tokens: _Tokens, number: int, options: OptionsDict, env: EnvType) -> str:
    return '<div class="table" tabindex="0"><table>\n'


def _table_end(_: Any, tokens: _Tokens, number: int, options: OptionsDict, env: EnvType) -> str:
    return "</table></div>\n"


class _Kept:
    """The newest results: a run that is looked at is asked for several times a second."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._found: OrderedDict[tuple[str, bool], str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, bool]) -> str | None:
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def add(self, key: tuple[str, bool], html: str) -> None:
        with self._lock:
            if key in self._found:
                return
            self._found[key] = html
            self._room -= len(key[0]) + len(html)
            while self._room < 0:
                (text, _), gone = self._found.popitem(last=False)
                self._room += len(text) + len(gone)


_kept = _Kept(KEPT_CHARS)
