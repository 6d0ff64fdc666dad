"""Timelines and traces: when which phase was, and what the machine did beside it."""

import time

import pytest

from core.hardware import Gpu, GpuDriver, HardwareSnapshot
from core.jobs import Job
from core.timeline import MAX_MARKS, MAX_SPANS, Timeline
from core.trace import MAX_POINTS, Tape


class Clock:
    """The monotonic clock and the wall clock, moved by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.wall = 1_700_000_000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "time", lambda: self.wall + self.now)

    def go(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def shape(timeline: Timeline) -> list[tuple[str, float, float]]:
    return [(span.phase, span.start, span.seconds) for span in timeline.spans()]


def sample(at: float, *gpus: Gpu, cpu: float = 10.0) -> HardwareSnapshot:
    return HardwareSnapshot(
        at=at,
        cpu_percent=cpu,
        cpu_count=2,
        memory_used=5,
        memory_total=8,
        swap_used=0,
        swap_total=0,
        gpus=gpus,
        driver=GpuDriver(state="ok", message=""),
    )


def test_phases_follow_each_other_without_gaps(clock: Clock) -> None:
    timeline = Timeline()
    for phase, seconds in (("queued", 0.5), ("loading", 2.0), ("writing", 1.5)):
        timeline.enter(phase)  # type: ignore[arg-type]
        clock.go(seconds)
    timeline.close()
    clock.go(60)

    assert shape(timeline) == [("queued", 0, 0.5), ("loading", 0.5, 2.0), ("writing", 2.5, 1.5)]
    assert timeline.seconds == 4.0


def test_the_last_phase_lasts_until_now_and_a_closed_timeline_stays_as_it_is(clock: Clock) -> None:
    timeline = Timeline()
    timeline.enter("reading")
    clock.go(3)
    assert shape(timeline) == [("reading", 0, 3.0)]

    timeline.close()
    timeline.enter("writing")
    timeline.mark(0.5, None)
    clock.go(3)
    timeline.close()

    assert shape(timeline) == [("reading", 0, 3.0)]


def test_marks_tell_how_a_phase_moved_on_and_skip_what_hardly_moved(clock: Clock) -> None:
    timeline = Timeline()
    timeline.enter("loading")
    for thousandth in range(1001):
        clock.go(0.01)
        timeline.mark(thousandth / 1000, "reading weights")
    timeline.mark(1.0, "warming up")
    marks = timeline.spans()[0].marks

    assert 40 <= len(marks) <= 52
    assert (marks[0].progress, marks[-1].progress) == (0.0, 1.0)
    assert marks[-1].stage == "warming up"
    assert [mark.at for mark in marks] == sorted(mark.at for mark in marks)


def test_no_job_can_fill_the_memory_with_phases_or_marks(clock: Clock) -> None:
    timeline = Timeline()
    for number in range(10_000):
        timeline.enter("thinking" if number % 2 else "writing")
        timeline.mark(None, f"stage {number}")
        clock.go(0.01)
    timeline.enter("loading")
    for number in range(10_000):
        timeline.mark(None, f"more {number}")
    spans = timeline.spans()

    assert len(spans) == MAX_SPANS
    assert max(len(span.marks) for span in spans) <= MAX_MARKS
    assert sum(span.seconds for span in spans) == pytest.approx(100, abs=0.1)


def test_a_job_notes_phases_as_it_enters_them_and_nothing_for_each_token(clock: Clock) -> None:
    job = Job("turn")
    job.enter("queued")
    clock.go(1)
    job.enter("loading", 0.5, stage="reading weights")
    clock.go(1)
    for _ in range(1000):
        job.enter("writing")
        clock.go(0.01)

    assert shape(job.timeline) == [("queued", 0, 1.0), ("loading", 1, 1.0), ("writing", 2, 10.0)]
    assert [len(span.marks) for span in job.timeline.spans()] == [0, 1, 0]


def test_an_answer_shows_the_load_it_waited_for_as_it_really_went(clock: Clock) -> None:
    load = Timeline()
    load.enter("queued")
    clock.go(1)
    answer = Timeline()
    answer.enter("queued")
    clock.go(0.5)
    since = clock.now
    clock.go(1)
    load.enter("unloading")
    clock.go(0.25)
    load.enter("loading")
    clock.go(1)
    load.mark(0.5, None)
    answer.enter("loading")  # it heard of the load late
    clock.go(1)
    answer.adopt(load, since)
    clock.go(0.25)
    answer.enter("reading")
    clock.go(1)
    answer.close()

    assert shape(answer) == [
        ("queued", 0, 1.5),
        ("unloading", 1.5, 0.25),
        ("loading", 1.75, 2.25),
        ("reading", 4.0, 1.0),
    ]
    assert [mark.at for mark in answer.spans()[2].marks] == [2.75]


def test_joining_a_load_half_way_shows_only_the_half_that_was_waited_for(clock: Clock) -> None:
    load = Timeline()
    load.enter("queued")
    clock.go(1)
    load.enter("loading")
    load.mark(0.1, None)
    clock.go(5)
    answer = Timeline()
    answer.enter("queued")
    clock.go(0.5)
    since = clock.now
    clock.go(2)
    answer.adopt(load, since)
    answer.close()

    assert shape(answer) == [("queued", 0, 0.5), ("loading", 0.5, 2.0)]
    assert [(mark.at, mark.progress) for mark in answer.spans()[1].marks] == [(0.5, 0.1)]


def test_a_trace_has_the_machine_at_its_moments_and_gpus_that_come_and_go(clock: Clock) -> None:
    tape = Tape(clock.now)
    gpu = Gpu(index=0, name="RTX", utilization_percent=90, memory_used=7, memory_total=24)
    tape.add(sample(time.time() - 0.4))
    clock.go(1)
    tape.add(sample(time.time() - 0.1, gpu, cpu=33.33))
    trace = tape.trace()

    assert trace.at == (-0.4, 0.9)
    assert trace.cpu_percent == (10.0, 33.3)
    assert (trace.memory_used, trace.memory_total, trace.cpu_count) == ((5, 5), 8, 2)
    assert [(g.name, g.memory_total) for g in trace.gpus] == [("RTX", 24)]
    assert trace.gpus[0].utilization_percent == (None, 90)
    assert trace.gpus[0].memory_used == (None, 7)


def test_a_clock_that_is_set_does_not_bend_the_trace(clock: Clock) -> None:
    tape = Tape(clock.now)
    clock.go(1)
    tape.add(sample(time.time()))
    clock.wall += 3600
    clock.go(1)
    tape.add(sample(time.time()))

    assert tape.trace().at == (1.0, 2.0)


@pytest.mark.parametrize("seconds", [0, 1, 299, 300, 301, 5000])
def test_a_trace_of_any_length_spans_it_all_with_few_points(clock: Clock, seconds: int) -> None:
    tape = Tape(clock.now)
    for _ in range(seconds + 1):
        tape.add(sample(time.time()))
        clock.go(1)
    at = tape.trace().at

    assert len(at) <= MAX_POINTS
    assert len(at) == seconds + 1 or len(at) > MAX_POINTS / 3
    assert at[0] == 0.0
    assert seconds - at[-1] <= max(1, seconds / 100)


def test_the_same_sample_counts_once(clock: Clock) -> None:
    tape = Tape(clock.now)
    same = sample(time.time())
    tape.add(same)
    tape.add(same)

    assert len(tape.trace().at) == 1
    assert Tape(0).trace().at == ()
