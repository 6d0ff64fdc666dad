"""What both ways of finding calls in a model's text have in common."""

from typing import NamedTuple, Protocol


class TextCall(NamedTuple):
    """A call found in text."""

    name: str
    arguments: str
    """JSON, or what the model took for it."""


class CallReader(Protocol):
    """Takes the text as it comes, and tells answer from calls."""

    def feed(self, text: str) -> str:
        """What is certainly answer by now; the rest is held back."""
        ...

    def end(self) -> tuple[str, list[TextCall]]:
        """The rest of the answer, and the calls."""
        ...


class PlainReader:
    """For requests without tools: everything is answer."""

    def feed(self, text: str) -> str:
        return text

    def end(self) -> tuple[str, list[TextCall]]:
        return "", []
