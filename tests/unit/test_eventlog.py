"""The log of a job: numbers, merging and resuming."""

from hypothesis import given
from hypothesis import strategies as st

from core.eventlog import EventLog


def log_of(*entries: tuple[str, str]) -> EventLog:
    log = EventLog()
    for kind, content in entries:
        if kind == "event":
            log.append(content, {"n": content})
        else:
            log.append_text(kind, content)
    return log


def test_neighbouring_deltas_arrive_as_one_with_the_last_number() -> None:
    log = log_of(("event", "start"), ("message.delta", "Hel"), ("message.delta", "lo"))

    events = log.read(0)

    assert [(e.number, e.type) for e in events] == [(1, "start"), (3, "message.delta")]
    assert events[1].data == {"type": "message.delta", "content": "Hello"}


def test_thinking_and_writing_are_not_merged_with_each_other() -> None:
    log = log_of(("reasoning.delta", "hm"), ("message.delta", "Yes"), ("reasoning.delta", "so"))

    assert [e.data["content"] for e in log.read(0)] == ["hm", "Yes", "so"]


def test_resuming_inside_a_run_of_deltas_gives_only_the_rest() -> None:
    log = log_of(("message.delta", "a"), ("message.delta", "b"), ("message.delta", "c"))

    assert [(e.number, e.data["content"]) for e in log.read(2)] == [(3, "c")]
    assert log.read(3) == []


def test_text_goes_on_after_it_was_read_in_the_middle() -> None:
    log = log_of(("message.delta", "a"), ("message.delta", "b"))
    log.read(1)
    log.append_text("message.delta", "c")

    assert log.read(0)[0].data["content"] == "abc"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["event", "message.delta", "reasoning.delta"]), st.text(max_size=3)
        ),
        max_size=40,
    ),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_however_one_resumes_nothing_is_lost_or_doubled(
    entries: list[tuple[str, str]], pauses: list[int]
) -> None:
    log, seen, after = EventLog(), [], 0
    for index, (kind, content) in enumerate(entries):
        if kind == "event":
            log.append("event", {"content": content})
        else:
            log.append_text(kind, content)
        if index in pauses:
            for event in log.read(after):
                seen.append((event.type, event.data["content"]))
                after = event.number
    seen.extend((event.type, event.data["content"]) for event in log.read(after))

    for kind in ("event", "message.delta", "reasoning.delta"):
        assert "".join(c for k, c in seen if k == kind) == "".join(
            c for k, c in entries if k == kind
        )
    assert log.last == len(entries)
