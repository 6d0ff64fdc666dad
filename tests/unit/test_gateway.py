"""What the gateway reads from requests and answers, byte by byte."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.gateway import errors, need, request, tap, upstream
from api.gateway.meter import FIRST_BYTE_BOUNDS, Counts
from core import errors as core_errors
from core.errors import DeskError, ProviderBusy, ProviderFailed, ProviderNeedsToken
from tests.frames import DONE, chunk, ending, usage_frame

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "type", "image_url", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(
    st.sampled_from(["model", "messages", "input", "prompt", "tools", "functions"]), ANYTHING
)


@given(BODIES)
def test_any_body_tells_what_it_needs(body: dict[str, Any]) -> None:
    wanted = need.need_of(body)

    assert wanted.tokens >= 0


@given(st.binary(max_size=60) | BODIES.map(orjson.dumps) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_request_or_a_refusal(raw: bytes) -> None:
    refused: DeskError | None = None
    try:
        named = request.parsed("/v1/completions", raw).model
    except DeskError as error:
        refused, named = error, "nothing"

    assert named.strip()
    assert refused is None or errors.refusal_of(refused).status == 400


def test_what_is_nested_too_deep_to_be_handed_on_is_refused() -> None:
    raw = b'{"model": "m", "messages": ' + b"[" * 600 + b"]" * 600 + b"}"

    with pytest.raises(request.BadJson):
        request.parsed("/v1/chat/completions", raw).bytes_for("x")


def test_pictures_tools_and_the_last_question_are_seen() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [{"type": "text", "text": "What is it?"}, picture]
    wanted = need.need_of(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": parts},
                {"role": "assistant", "content": None},
            ],
            "tools": [{"type": "function"}],
        }
    )

    assert (wanted.vision, wanted.tools, wanted.text) == (True, True, "What is it?")
    assert need.need_of({"input": "Hi", "tools": []}).text == "Hi"
    assert not need.need_of({"prompt": ["a", "b"]}).tools


@given(st.lists(st.sampled_from(["data: x", "\n", "event: y", "é"])), st.booleans())
def test_whole_events_end_where_an_event_ends(pieces: list[str], windows: bool) -> None:
    end = b"\r\n" if windows else b"\n"
    raw = "".join(pieces).encode().replace(b"\n", end)
    cut = tap.whole_events(raw)

    assert raw[:cut] == b"" or raw[:cut].endswith(end + end)
    assert end + end not in raw[cut:]


def test_the_tap_counts_what_the_server_counts_or_else_the_events() -> None:
    told, silent = tap.Tap(), tap.Tap()
    for number in range(10):
        for each in (told, silent):
            each.take(chunk({"content": f"{number} "}))
    for frame in ending("m", 12):
        told.take(frame)
    silent.take(chunk({}, finish_reason="stop"))
    silent.take(DONE)

    assert told.usage() == (7, 12)
    assert silent.usage() == (0, 10)
    assert told.complete
    assert silent.complete


def test_a_stream_without_its_end_is_not_complete() -> None:
    cut = tap.Tap()
    cut.take(chunk({"content": 'She said: "finish_reason": "stop" and [DONE'}))

    assert not cut.complete


@pytest.mark.parametrize(
    ("frame", "token"),
    [
        (chunk({"role": "assistant", "content": ""}), False),
        (chunk({"role": "assistant", "content": None}), False),
        (chunk({}, finish_reason="stop"), False),
        (usage_frame(1, 2), False),
        (chunk({"content": " "}), True),
        (chunk({"reasoning_content": "Hm"}), True),
        (chunk({"tool_calls": [{"index": 0}]}), True),
        (b'data: {"choices": [{"text": "a"}]}\n\n', True),
        (b'data: {"type":"response.output_text.delta","delta":"a"}\n\n', True),
    ],
)
def test_a_token_is_told_from_what_is_around_it(frame: bytes, token: bool) -> None:
    assert tap.has_token(frame) is token


@given(st.integers(100, 599), st.binary(max_size=300))
def test_any_error_of_a_server_becomes_one_of_ours(status: int, raw: bytes) -> None:
    error = upstream.as_error(status, raw, "peer", "/v1/x")
    refused = errors.refusal_of(error)

    assert 400 <= refused.status < 600
    assert refused.body.startswith(b'{"error":{')


def test_a_servers_errors_keep_their_meaning() -> None:
    def of(status: int, raw: bytes, **more: str) -> DeskError:
        return upstream.as_error(status, raw, "peer", "/v1/responses", **more)

    busy = of(429, b'{"error": "slow down"}', retry_after="7")
    assert isinstance(busy, ProviderBusy)
    assert (b"retry-after", b"7") in errors.refusal_of(busy).headers
    assert errors.refusal_of(busy).status == 429
    assert isinstance(of(401, b""), ProviderNeedsToken)
    assert isinstance(of(503, b"<html>"), ProviderFailed)
    assert isinstance(of(404, b"404 page not found"), errors.NotServed)
    missing = of(404, b'{"error": {"message": "no such model", "type": "not_found_error"}}')
    assert errors.refusal_of(missing).status == 404
    full = of(400, b'{"error":{"code":400,"message":"exceeds the available context size"}}')
    assert b'"code":"context_length_exceeded"' in errors.refusal_of(full).body


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (core_errors.ModelNotFound("x"), 404),
        (core_errors.ModelAmbiguous("x"), 404),
        (core_errors.BadParameter("x"), 400),
        (core_errors.ContextTooLong("x"), 400),
        (core_errors.ModelInUse("x"), 409),
        (core_errors.ProviderResting("x"), 503),
        (core_errors.ProviderTimeout("x"), 504),
        (core_errors.LoadFailed("x"), 502),
        (core_errors.NotEnoughMemory("x"), 507),
        (DeskError("x"), 500),
    ],
)
def test_each_error_has_a_status_that_clients_understand(error: DeskError, status: int) -> None:
    assert errors.refusal_of(error).status == status


def test_a_load_that_failed_keeps_the_status_of_its_reason() -> None:
    error = DeskError("It does not fit.")
    error.code = "not_enough_memory"  # type: ignore[misc]

    assert errors.refusal_of(error).status == 507


def test_seconds_fall_into_their_buckets() -> None:
    counts = Counts()
    for seconds in (0.0, 0.005, 0.006, 100.0):
        counts.first_byte_after(seconds)

    assert counts.first_byte[:2] == [2, 1]
    assert counts.first_byte[-1] == 1
    assert sum(counts.first_byte) == 4
    assert len(counts.first_byte) == len(FIRST_BYTE_BOUNDS) + 1
