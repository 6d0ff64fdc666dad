"""Thinking written into the answer itself: `<think>…</think>` at its beginning, in any number of pieces."""

from typing import Literal

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkSplitter:
    """Tells thinking from answer. Only a tag that opens the answer counts; later ones are text."""

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._state: Literal["start", "opened", "thinking", "closed", "answer"] = "start"
        self._held = ""

    @property
    def plain(self) -> bool:
        """Everything from here on is answer: no need to ask."""
        return self._state == "answer"

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, answer) that are certain by now; what might be half a tag is held back."""
        self._held += text
        thinking = ""
        if self._state == "start":
            self._open()
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
        return thinking, self._take() if self._state == "answer" else ""

    def flush(self) -> tuple[str, str]:
        """(thinking, answer) of what was held back, when nothing more comes."""
        held = self._take()
        return (held, "") if self._state in ("opened", "thinking") else ("", held)

    def _open(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(_OPEN):
            self._state, self._held = "opened", begun[len(_OPEN) :]
        elif not _OPEN.startswith(begun):
            self._state = "answer"

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


def _half_tag(text: str) -> int:
    """How many characters at the end could belong to the closing tag and the lines before it."""
    length = next(
        (n for n in range(min(len(text), len(_CLOSE) - 1), 0, -1) if _CLOSE.startswith(text[-n:])),
        0,
    )
    before = text[: len(text) - length]
    return length + len(before) - len(before.rstrip("\n"))
