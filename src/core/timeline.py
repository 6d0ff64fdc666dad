"""Timeline: the phases a job went through, each with its start, its length and how it moved on."""

import time
from typing import Literal, NamedTuple

from core.value import Value

Phase = Literal[
    "queued", "loading", "reading", "thinking", "writing", "tools", "unloading", "downloading"
]

# Marks nearer to each other than this tell nothing new.
MARK_STEP = 0.02
# A model that changes its mind between thinking and writing all the time must not fill the memory.
MAX_SPANS = 200
MAX_MARKS = 100


class Mark(Value):
    """How far a phase was at one moment."""

    at: float
    """Seconds from the timeline's start."""
    progress: float | None = None
    """0 to 1 within the phase."""
    stage: str | None = None


class Span(Value):
    """One phase. Seconds count from the timeline's start."""

    phase: Phase
    start: float
    seconds: float
    marks: tuple[Mark, ...] = ()


class _Moment(NamedTuple):
    """A mark, on the monotonic clock."""

    at: float
    progress: float | None
    stage: str | None


class _Open(NamedTuple):
    """A phase that began; it lasts until the next one begins."""

    phase: Phase
    at: float
    marks: list[_Moment]


class Timeline:
    """Written by a job as it goes. Costs nothing while a phase lasts."""

    def __init__(self) -> None:
        self.started_at = time.time()
        """Unix seconds; everything else here is measured on the monotonic clock."""
        self.zero = time.monotonic()
        self._spans: list[_Open] = []
        self._closed: float | None = None

    @property
    def closed(self) -> bool:
        return self._closed is not None

    @property
    def seconds(self) -> float:
        """From the start to the end, or until now."""
        return round((self._closed or time.monotonic()) - self.zero, 4)

    def enter(self, phase: Phase) -> None:
        """A phase begins, and the one before it ends."""
        if self._closed is None and len(self._spans) < MAX_SPANS:
            self._spans.append(_Open(phase, time.monotonic(), []))

    def mark(self, progress: float | None, stage: str | None) -> None:
        """The phase moved on."""
        if self._spans and self._closed is None:
            _add(self._spans[-1].marks, _Moment(time.monotonic(), progress, stage))

    def close(self) -> None:
        """The last phase ends. Closing twice changes nothing."""
        self._closed = self._closed or time.monotonic()

    def adopt(self, other: "Timeline", since: float) -> None:
        """What was done from `since` (monotonic) on was this other job's work: take its phases over.

        So an answer that waited for a load shows when the load really did what.
        """
        if self._closed is not None:
            return
        mine = [span for span in self._spans if span.at < since]
        for at, span in enumerate(other._spans):
            following = other._spans[at + 1].at if at + 1 < len(other._spans) else None
            if following is not None and following <= since:
                continue
            marks = _from(span.marks, since)
            if mine and mine[-1].phase == span.phase:
                mine[-1].marks.extend(marks[: MAX_MARKS - len(mine[-1].marks)])
            else:
                mine.append(_Open(span.phase, max(span.at, since), marks))
        self._spans = mine[:MAX_SPANS]

    def spans(self) -> tuple[Span, ...]:
        """The phases in order; the last one lasts until the end, or until now."""
        end = self._closed or time.monotonic()
        ends = [*(span.at for span in self._spans[1:]), end]
        return tuple(
            Span(
                phase=span.phase,
                start=self._since(span.at),
                seconds=round(max(0.0, until - span.at), 4),
                marks=tuple(
                    Mark(at=self._since(mark.at), progress=mark.progress, stage=mark.stage)
                    for mark in span.marks
                ),
            )
            for span, until in zip(self._spans, ends, strict=True)
        )

    def _since(self, at: float) -> float:
        return round(max(0.0, at - self.zero), 4)


def _add(marks: list[_Moment], new: _Moment) -> None:
    """Keep the mark unless it hardly differs from the last one."""
    if (new.progress is None and new.stage is None) or len(marks) >= MAX_MARKS:
        return
    if marks and marks[-1].stage == new.stage and not _moved(marks[-1].progress, new.progress):
        return
    marks.append(new)


def _from(marks: list[_Moment], since: float) -> list[_Moment]:
    """The marks from then on, beginning with where it stood then."""
    before = [mark._replace(at=since) for mark in marks if mark.at < since]
    return [*before[-1:], *(mark for mark in marks if mark.at >= since)]


def _moved(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is not now
    return abs(now - before) >= MARK_STEP or (now == 1.0 and before != 1.0)
