"""An append-only list of numbered events, in which runs of text deltas are kept as one text.

A watcher asks for everything after the number it has seen. Neighbouring deltas of one type come
back as one, whose number is the last one's, so a slow watcher gets few large events and a fast one
gets each token, with the same resume point in both cases.
"""

from array import array
from bisect import bisect_right
from io import StringIO
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One event as a watcher sees it. `data` repeats the `type`, as LM Studio's events do."""

    number: int
    type: str
    data: dict[str, Any]


class _TextRun:
    """Consecutive deltas of one type: the text, and where each delta ends in it."""

    __slots__ = ("_ends", "_text", "first", "type")

    def __init__(self, event_type: str, first: int) -> None:
        self.type = event_type
        self.first = first
        self._ends = array("Q")
        self._text = StringIO()

    def append(self, content: str) -> None:
        self._text.write(content)
        self._ends.append(self._text.tell())

    @property
    def last(self) -> int:
        return self.first + len(self._ends) - 1

    def after(self, number: int) -> Event:
        """The deltas behind `number`, as one."""
        skip = max(0, number - self.first + 1)
        self._text.seek(self._ends[skip - 1] if skip else 0)
        content = self._text.read()  # leaves the position at the end, where the next write belongs
        return Event(self.last, self.type, {"type": self.type, "content": content})


class EventLog:
    """The events of one job, numbered from 1."""

    def __init__(self) -> None:
        self._entries: list[Event | _TextRun] = []
        self._firsts: list[int] = []
        self.last = 0

    def append(self, event_type: str, data: dict[str, Any]) -> Event:
        """Add an event of its own."""
        self.last += 1
        event = Event(self.last, event_type, {"type": event_type, **data})
        self._entries.append(event)
        self._firsts.append(self.last)
        return event

    def append_text(self, event_type: str, content: str) -> None:
        """Add a text delta."""
        self.last += 1
        run = self._entries[-1] if self._entries else None
        if not isinstance(run, _TextRun) or run.type != event_type:
            run = _TextRun(event_type, self.last)
            self._entries.append(run)
            self._firsts.append(self.last)
        run.append(content)

    def read(self, after: int) -> list[Event]:
        """Everything behind number `after`, neighbouring deltas merged."""
        if after >= self.last:
            return []
        start = max(0, bisect_right(self._firsts, after) - 1)
        events = []
        for entry in self._entries[start:]:
            if isinstance(entry, _TextRun):
                if entry.last > after:
                    events.append(entry.after(after))
            elif entry.number > after:
                events.append(entry)
        return events
