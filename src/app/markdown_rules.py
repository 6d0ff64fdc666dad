"""What models write beyond Markdown: formulas, and the few tags that it has no sign for.

Rules of markdown-it: each says whether it applies at the place where the reader is, and then adds
tokens and moves on.
"""

import re

from markdown_it.rules_block import StateBlock, table
from markdown_it.rules_inline import StateInline

# As in the chats (app.pages.layout), whose page draws them; here they stand as they are written.
PAIRS = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}
MAX_FORMULA_CHARS = 2000
MAX_FORMULA_LINES = 40
# A row of one cell is filled up to the width of its table, so few signs can make very many cells.
MAX_CELLS = 20_000
BREAK = re.compile(r"<br\s?/?>", re.I)
# A pair with nothing but text in it, so that what is opened is closed.
PAIR = re.compile(r"<(sub|sup|kbd)>([^<>\n]{1,200})</\1>", re.I)


def formula(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A formula in lines of its own, from a line that begins with its sign."""
    if state.is_code_block(start):
        return False
    first = state.bMarks[start] + state.tShift[start]
    close = {"$$": "$$", "\\[": "\\]"}.get(state.src[first : first + 2])
    if close is None:
        return False
    line = _last_line(state, start, end, first + 2, close)
    if line is None:
        return False
    if silent:
        return True
    text = state.getLines(start, line + 1, state.sCount[start], False).strip()
    token = state.push("formula_block", "code", 0)
    token.content = text[2:-2].strip("\n")
    token.map = [start, line + 1]
    state.line = line + 1
    return True


def _last_line(state: StateBlock, start: int, end: int, first: int, close: str) -> int | None:
    """The line that ends with the sign, of those that belong to the same block."""
    for line in range(start, min(end, start + MAX_FORMULA_LINES)):
        if line > start:
            first = state.bMarks[line] + state.tShift[line]
            if first < state.eMarks[line] and state.sCount[line] < state.blkIndent:
                return None
        found = state.src.find(close, first, state.eMarks[line])
        if found >= 0:
            return None if state.src[found + 2 : state.eMarks[line]].strip() else line
    return None


def formulas(state: StateInline, silent: bool) -> bool:
    """A formula among words."""
    close = PAIRS.get(state.src[state.pos : state.pos + 2])
    if close is None:
        return False
    begin = state.pos + 2
    end = state.src.find(close, begin, min(state.posMax, begin + MAX_FORMULA_CHARS))
    text = state.src[begin:end].strip() if end >= 0 else ""
    if not text or "`" in text:  # code that is about these signs
        return False
    if not silent:
        state.push("formula", "code", 0).content = text
    state.pos = end + 2
    return True


def named_tags(state: StateInline, silent: bool) -> bool:
    """`<br>`, as models write in cells of tables, and what is raised, lowered or a key."""
    if state.src[state.pos] != "<":
        return False
    if found := BREAK.match(state.src, state.pos, state.posMax):
        if not silent:
            state.push("hardbreak", "br", 0)
    elif found := PAIR.match(state.src, state.pos, state.posMax):
        if not silent:
            tag = found[1].lower()
            state.push(f"{tag}_open", tag, 1)
            state.push("text", "", 0).content = found[2]
            state.push(f"{tag}_close", tag, -1)
    else:
        return False
    state.pos = found.end()
    return True


def measured_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """The library's table, unless it could get out of hand: then its lines are text."""
    columns = state.src.count("|", state.bMarks[start], state.eMarks[start]) + 1
    if columns * (end - start) > MAX_CELLS:
        return False
    return table(state, start, end, silent)
