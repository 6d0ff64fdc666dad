"""Thinking written into the answer itself: `<think>…</think>` at its beginning, in any number of pieces.

Templates of DeepSeek's and Qwen's kind open it in the prompt, so that all that comes is `…</think>`:
then the tag tells what the text before it was.
"""

from typing import Literal, NamedTuple

_OPEN, _CLOSE = "<think>", "</think>"
_FENCES = ("```", "~~~")
# What an answer in JSON begins with; no model thinks in it.
_JSON = ("{", "[")
_SENTENCE_ENDS = tuple(".!?…。！？")
# A text that goes on so behind a tag tells of it.
_GOES_ON = tuple(" \t,.;:!?)'\"`*_")
# A text that names the tag so often is about tags.
_MOST_NAMED = 20


class Told(NamedTuple):
    """What is certain by now, in this order."""

    thinking: str
    answer: str
    turned: bool = False
    """All that was told as answer before was thinking."""


class ThinkSplitter:
    """Tells thinking from answer. An opening tag counts where it opens the answer; a closing one
    also without it, once, where it closes a line or opens one and stands in no code. All others are
    text."""

    __slots__ = ("_apart", "_held", "_named", "_state", "_told")

    def __init__(self) -> None:
        self._state: Literal["start", "opened", "thinking", "closed", "open", "answer"] = "start"
        self._held = ""
        self._told: list[str] = []
        """What was told as answer while it may still turn out to be thinking."""
        self._named = 0
        self._apart = False

    def passes(self, text: str) -> bool:
        """Whether this is answer as it stands, as nearly every piece is: then it need not be fed."""
        if self._state == "answer":
            return True
        if self._state != "open" or self._held or "<" in text or text.endswith("\n"):
            return False
        self._told.append(text)
        return True

    def apart(self) -> None:
        """The server tells thinking from answer itself: words before a lone tag are answer."""
        self._apart = True

    def feed(self, text: str) -> Told:
        """What is certain by now; what might be half a tag is held back."""
        if self.passes(text):
            return Told("", text)
        self._held += text
        return self._split(over=False)

    def flush(self) -> Told:
        """What was held back, when nothing more comes."""
        thinking, answer, turned = self._split(over=True)
        held = self._take()
        if self._state in ("opened", "thinking"):
            return Told(thinking + held, answer, turned)
        return Told(thinking, answer + held, turned)

    def _split(self, *, over: bool) -> Told:
        thinking, answer, turned = "", "", False
        if self._state == "start":
            self._open()
        if self._state == "open":
            thinking, answer, turned = self._lone(over=over)
        if self._state == "opened":
            self._held = self._held.lstrip("\n")
            if self._held:
                self._state = "thinking"
        if self._state == "thinking":
            thinking = self._think()
        if self._state == "closed":
            self._held = self._held.lstrip()
            if self._held:
                self._state = "answer"
        if self._state == "answer":
            answer += self._take()
        return Told(thinking, answer, turned)

    def _open(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(_OPEN):
            self._state, self._held = "opened", begun[len(_OPEN) :]
        elif not _OPEN.startswith(begun):
            self._state = "answer" if begun.startswith(_JSON) else "open"

    def _lone(self, *, over: bool) -> Told:
        place = self._held.find(_CLOSE)
        while place >= 0:
            end = place + len(_CLOSE)
            behind = self._held[end : end + 1]
            if not behind and not over:
                break  # what follows decides
            before = "".join((*self._told, self._held[:place]))
            if self._closes(before, behind):
                thinking, self._held = self._held[:place].rstrip("\n"), self._held[end:]
                turned = bool(self._told)
                self._told.clear()
                self._state = "closed"
                return Told(thinking, "", turned)
            self._named += 1
            if _OPEN in before or self._named == _MOST_NAMED:
                self._told.clear()
                self._state = "answer"
                return Told("", "")
            place = self._held.find(_CLOSE, end)
        if over:
            return Told("", "")
        keep = len(self._held) - place if place >= 0 else _half_tag(self._held)
        cut = len(self._held) - keep
        cut = len(self._held[:cut].rstrip("\n"))
        answer, self._held = self._held[:cut], self._held[cut:]
        if answer:
            self._told.append(answer)
        return Told("", answer)

    def _closes(self, before: str, behind: str) -> bool:
        """Whether a closing tag between these ends thinking; else the text only names it."""
        if _OPEN in before or (self._apart and before.strip()) or _in_code(before):
            return False
        line = before.rpartition("\n")[2].rstrip()
        if not line:
            return True
        return line.endswith(_SENTENCE_ENDS) and not behind.startswith(_GOES_ON)

    def _think(self) -> str:
        thinking, tag, rest = self._held.partition(_CLOSE)
        if tag:
            self._state, self._held = "closed", rest
            return thinking.rstrip("\n")
        keep = _half_tag(self._held)
        cut = len(self._held) - keep
        thinking, self._held = self._held[:cut], self._held[cut:]
        return thinking

    def _take(self) -> str:
        held, self._held = self._held, ""
        return held


def _in_code(text: str) -> bool:
    """Whether what follows this text stands in a fence, or between backticks."""
    *lines, last = text.split("\n")
    fences = sum(line.lstrip().startswith(_FENCES) for line in lines)
    return fences % 2 == 1 or last.count("`") % 2 == 1


def _half_tag(text: str) -> int:
    """How many characters at the end could belong to the closing tag and the lines before it."""
    length = next(
        (n for n in range(min(len(text), len(_CLOSE) - 1), 0, -1) if _CLOSE.startswith(text[-n:])),
        0,
    )
    before = text[: len(text) - length]
    return length + len(before) - len(before.rstrip("\n"))
