"""The reader of chat completion streams, in all the ways LM Studio is known to send them."""

import orjson
import pytest

from core.chat import ChatEvent, MessageDelta, PromptProgress, ReasoningDelta, WasThinking
from infrastructure.http import ServerError
from infrastructure.providers.openai.stream import MAX_LINE_BYTES, AnswerReader
from infrastructure.providers.openai.think import ThinkSplitter
from tests.frames import DONE, chunk, ending, usage_frame


def read(raw: bytes, *, step: int | None = None) -> tuple[list[ChatEvent], AnswerReader]:
    reader = AnswerReader()
    events: list[ChatEvent] = []
    for start in range(0, len(raw), step or len(raw) or 1):
        events += reader.feed(raw[start : start + (step or len(raw))])
    return events + reader.end(), reader


def texts(events: list[ChatEvent]) -> tuple[str, str]:
    thinking = "".join(e.content for e in events if isinstance(e, ReasoningDelta))
    return thinking, "".join(e.content for e in events if isinstance(e, MessageDelta))


@pytest.mark.parametrize("step", [1, 2, 7, 64, None])
def test_an_answer_is_whole_however_the_bytes_are_cut(step: int | None) -> None:
    raw = b"".join(
        [
            chunk({"role": "assistant", "reasoning_content": "Let me"}, model="qwen"),
            chunk({"reasoning_content": " think"}),
            chunk({"content": "Grüß"}),
            chunk({"content": " Gott 👋"}),
            *ending("qwen", 4),
        ]
    )

    events, reader = read(raw, step=step)

    assert texts(events) == ("Let me think", "Grüß Gott 👋")
    assert (reader.done, reader.finish_reason, reader.model) == (True, "stop", "qwen")
    assert reader.usage == {"prompt_tokens": 7, "completion_tokens": 4}


def test_carriage_returns_comments_and_unknown_frames_are_passed_over() -> None:
    raw = b": ping\r\n\r\n" + chunk({"content": "Hi"}).replace(b"\n", b"\r\n")
    raw += b'data: {"type":"of tomorrow"}\n\ndata: []\n\ndata: "x"\n\nid: 7\n' + DONE

    events, reader = read(raw)

    assert texts(events) == ("", "Hi")
    assert reader.done
    assert reader.failure is None


@pytest.mark.parametrize(
    "frame",
    [
        {"choices": ["text"]},
        {"choices": {}},
        {"choices": [{"delta": "text", "finish_reason": 5}]},
        {"choices": [{"delta": {"content": 5, "reasoning": {"a": 1}}}]},
        {"choices": None, "usage": None, "model": 3},
    ],
)
def test_frames_of_a_foreign_shape_do_no_harm(frame: dict[str, object]) -> None:
    events, reader = read(b"data: " + orjson.dumps(frame) + b"\n\n" + chunk({"content": "ok"}))

    assert texts(events) == ("", "ok")
    assert reader.failure is None


def test_the_reasoning_field_of_gpt_oss_counts_as_thinking() -> None:
    events, _ = read(chunk({"reasoning": "Hm"}) + chunk({"content": "Yes"}))

    assert texts(events) == ("Hm", "Yes")


def test_a_broken_frame_ends_the_reading_and_what_is_no_frame_does_not() -> None:
    events, reader = read(chunk({"content": "a"}) + b"data: ping\n\n" + chunk({"content": "b"}))
    assert [event.content for event in events] == ["a", "b"]  # type: ignore[union-attr]
    assert not reader.unreadable

    broken = chunk({"content": "lost"})[:40] + b"\n\n"
    events, reader = read(chunk({"content": "a"}) + broken + chunk({"content": "b"}))
    assert [event.content for event in events] == ["a"]  # type: ignore[union-attr]
    assert reader.unreadable


def test_two_frames_spliced_into_one_line_give_the_later_one() -> None:
    spliced = chunk({"content": "lost"})[:40] + chunk({"content": "kept"})

    events, reader = read(spliced + DONE)

    assert texts(events) == ("", "kept")
    assert reader.failure is None


@pytest.mark.parametrize(
    ("raw", "text", "type_"),
    [
        (b'data: {"error":{"message":"Boom","type":"server_error"}}\n\n', "Boom", "server_error"),
        (b'data: {"error":"Boom"}\n\n', "Boom", ""),
        (b'event: error\ndata: {"error":{"message":"Boom","type":"x"}}\n\n', "Boom", "x"),
        (b'event: error\ndata: "Boom"\n\n', "Boom", ""),
        (b'event: error\ndata: {"message":"Boom","type":"y"}\n\n', "Boom", "y"),
        (b"event: error\ndata: Boom\n\n", "Boom", ""),
        (b'data: {"error":"Boom"}', "Boom", ""),
    ],
)
def test_every_known_form_of_error_is_found_after_the_text_before_it(
    raw: bytes, text: str, type_: str
) -> None:
    events, reader = read(chunk({"content": "Hel"}) + raw)

    assert texts(events) == ("", "Hel")
    assert reader.failure == ServerError(text, type_)


def test_an_event_name_holds_for_its_own_frame_only() -> None:
    events, reader = read(b"event: message\n" + chunk({"content": "a"}) + chunk({"content": "b"}))

    assert texts(events) == ("", "ab")
    assert reader.failure is None


def test_usage_is_read_from_any_frame() -> None:
    last = orjson.loads(chunk({}, finish_reason="length")[6:])
    last["usage"] = {"prompt_tokens": 1, "completion_tokens": 2}

    _, reader = read(b"data: " + orjson.dumps(last) + b"\n\n")

    assert (reader.finish_reason, reader.usage) == ("length", last["usage"])


def test_prompt_progress_and_timings_are_taken_where_offered() -> None:
    raw = b'data: {"choices":[],"prompt_progress":{"total":10,"processed":5}}\n\n'
    raw += b'data: {"choices":[],"prompt_progress":{"total":0}}\n\n'
    raw += b'data: {"choices":[],"timings":{"predicted_per_second":12.5}}\n\n'

    events, reader = read(raw)

    assert events == [PromptProgress(0.5), PromptProgress(None)]
    assert reader.stats == {"timings": {"predicted_per_second": 12.5}}


def test_nothing_after_done_is_read() -> None:
    events, _ = read(chunk({"content": "a"}) + DONE + chunk({"content": "b"}))

    assert texts(events) == ("", "a")


def test_a_line_without_an_end_is_an_error_and_not_a_full_memory() -> None:
    reader = AnswerReader()

    reader.feed(b"data: " + b"x" * (MAX_LINE_BYTES + 1))

    assert reader.failure is not None


def test_a_tool_call_counts_as_something_said() -> None:
    _, reader = read(chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}))

    assert reader.said


def split(*pieces: str) -> tuple[str, str]:
    splitter = ThinkSplitter()
    thinking = answer = ""
    for told in [*map(splitter.feed, pieces), splitter.flush()]:
        if told.turned:
            thinking, answer = thinking + answer, ""
        thinking += told.thinking
        answer += told.answer
    return thinking, answer


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>\nHm,\n\nwell\n\n</think>\n\nYes\n", "Hm,\n\nwell", "Yes\n"),
        ("<think>\n\n</think>\n\nYes", "", "Yes"),
        ("\n <think>a<b</thin</think>c", "a<b</thin", "c"),
        ("No tag at all", "", "No tag at all"),
        ("Use the <think> tag</think>", "", "Use the <think> tag</think>"),
        ("<thinner>", "", "<thinner>"),
        ("<think>never closed </th", "never closed </th", ""),
        ("<thi", "", "<thi"),
        ("<think></think>only", "", "only"),
        # Opened in the prompt already.
        ("Hm,\n\nwell.\n</think>\n\nYes\n", "Hm,\n\nwell.", "Yes\n"),
        ("Hm\n\n</think>Yes", "Hm", "Yes"),
        ("Hm.</think>Yes", "Hm.", "Yes"),
        ("Hm. </think>\nYes", "Hm. ", "Yes"),
        ("</think>\n\nYes", "", "Yes"),
        ("Hm\n</think>", "Hm", ""),
        (
            "1 < 2\n</thin\n</think>\nYes </think>.\n</think>\n",
            "1 < 2\n</thin",
            "Yes </think>.\n</think>\n",
        ),
        (
            "I write `</think>`:\n```\n</think>\n```\nyes.\n</think>\nA",
            "I write `</think>`:\n```\n</think>\n```\nyes.",
            "A",
        ),
        ("", "", ""),
        *(
            (text, "", text)
            for text in (
                "It ends with `</think>`.\n",
                "It ends with `</think>`",
                "Like so:\n```\nHm\n</think>\nYes\n```\n",
                "Like so:\n~~~xml\n</think>\n~~~",
                "The </think> tag ends it.",
                "It is called </think>",
                'It ends with "</think>"\n',
                "Write <think>\nHm.\n</think>\n and go on.",
                '{"answer": "Hm.\n</think>\nYes"}',
                "One\n\nTwo\n",
                "</thin",
            )
        ),
    ],
)
def test_thinking_inside_the_content_is_told_apart_however_it_is_cut(
    text: str, thinking: str, answer: str
) -> None:
    for size in (1, 2, 3, 5, 100):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert split(*pieces) == (thinking, answer), size


def test_words_before_a_lone_closing_tag_turn_out_to_be_thinking() -> None:
    raw = b"".join(chunk({"content": piece}) for piece in ("Hm", ".\n", "</think>", "\n\n", "Yes"))

    events, _ = read(raw + DONE)

    assert events == [MessageDelta("Hm"), MessageDelta("."), WasThinking(), MessageDelta("Yes")]


def test_a_lone_closing_tag_is_text_where_the_server_tells_thinking_itself() -> None:
    raw = chunk({"reasoning_content": "Hm"}) + chunk({"content": "It is\n</think>\nYes"})

    events, _ = read(raw + DONE)

    assert texts(events) == ("Hm", "It is\n</think>\nYes")


def test_a_text_that_names_the_tag_again_and_again_stays_an_answer() -> None:
    splitter = ThinkSplitter()

    told = [splitter.feed("The </think> tag. ") for _ in range(30)]

    assert splitter.passes("</think>\n")
    assert "".join(each.answer for each in told) == "The </think> tag. " * 30


def test_think_tags_in_the_content_become_reasoning_events() -> None:
    raw = b"".join(
        chunk({"content": piece}) for piece in ("<th", "ink>Hm</t", "hink>", "\n", "Yes")
    )

    events, _ = read(raw + usage_frame(1, 5) + DONE)

    assert texts(events) == ("Hm", "Yes")
