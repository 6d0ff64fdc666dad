"""What is kept of a flight: no text twice, no secrets, and the whole request again afterwards."""

from typing import Any

import pytest

from core.chats import Message, Problem, TurnStats
from core.flight import Flight, FlightRecord, KeptRequest, kept_request, told
from core.redaction import REMOVED, Redaction
from core.timeline import Phase, Span
from core.trace import MachineTrace
from core.wire import MAX_FACT_CHARS, SentRequest, WireLog

TOKEN = "sk-lm-ABCDEFGH:0123456789abcdefghij"
PLAIN = Redaction()


def message(key: str, role: str, content: str, **more: Any) -> Message:
    return Message.model_validate(
        {"id": key, "chat_id": "c", "role": role, "content": content, "created_at": 1.0, **more}
    )


HISTORY = [
    message("u1", "user", "First question " * 20),
    message("a1", "assistant", ""),
    message("u2", "user", "Second question"),
    message("a2", "assistant", "Second answer"),
    message("u3", "user", "Third question"),
]
SENT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": f"{HISTORY[0].content}\n\nSecond question"},
    {"role": "assistant", "content": "Second answer"},
    {"role": "user", "content": "Third question"},
]


def sent(**body: Any) -> SentRequest:
    whole = {"model": "m", "messages": SENT, "max_tokens": 100, **body}
    return SentRequest(method="POST", url="http://127.0.0.1:1234/v1/chat/completions", body=whole)


def record(
    request: KeptRequest | None = None, *phases: Phase, response: dict[str, Any] | None = None
) -> FlightRecord:
    spans = tuple(Span(phase=phase, start=at, seconds=1) for at, phase in enumerate(phases))
    return FlightRecord(
        started_at=1.0,
        seconds=2.0,
        provider="lmstudio",
        provider_kind="lmstudio",
        phases=spans,
        trace=MachineTrace(),
        request=request,
        response=response,
    )


def again(kept: KeptRequest, history: list[Message] = HISTORY) -> dict[str, Any]:
    """The body as it is told later."""
    flight = told(record(kept), message("a3", "assistant", "Done"), history, PLAIN)
    assert flight.request is not None
    return flight.request.body


def test_the_request_is_kept_without_the_conversation_and_told_with_it_to_the_letter() -> None:
    kept = kept_request(sent(), HISTORY, PLAIN)

    assert "question" not in kept.model_dump_json()
    assert [each.of for each in kept.messages or ()] == [(), ("u1", "u2"), ("a2",), ("u3",)]
    assert again(kept) == sent().body
    assert list(again(kept)) == list(sent().body)


def test_what_an_adapter_changed_is_kept_as_it_was_sent() -> None:
    changed = [*SENT[:2], {"role": "assistant", "content": "Something else", "name": "x"}, SENT[3]]
    parts = {"role": "user", "content": [{"type": "text", "text": "Look"}]}
    kept = kept_request(sent(messages=[*changed, parts]), HISTORY, PLAIN)

    assert again(kept)["messages"] == [*changed, parts]


def test_a_request_without_messages_is_told_as_it_was() -> None:
    for body in ({"messages": "odd"}, {"messages": ["odd"]}):
        assert again(kept_request(sent(**body), HISTORY, PLAIN)) == sent(**body).body


def test_a_text_that_is_no_longer_the_same_is_not_passed_off_as_what_was_sent() -> None:
    kept = kept_request(sent(), HISTORY, PLAIN)
    edited = [*HISTORY[:-1], message("u3", "user", "Another question")]

    assert again(kept, edited)["messages"][-1] == {"role": "user", "content": None}
    assert again(kept, HISTORY[:-1])["messages"][-1] == {"role": "user", "content": None}


def test_no_secret_is_kept_or_told_wherever_it_turns_up() -> None:
    redaction = Redaction([TOKEN])
    history = [message("u1", "user", f"My key is {TOKEN}, is that bad?")]
    request = SentRequest(
        method="POST",
        url=f"http://me:hunter22@host:1/v1?api_key=abcdefgh&x=1&token={TOKEN}",
        body={
            "messages": [{"role": "user", "content": history[0].content}],
            "authorization": f"Bearer {TOKEN}",
            "extra": {"API_Key": "abcdefgh", "deep": [f"Authorization: Bearer {TOKEN}"]},
            "max_tokens": 5,
        },
    )
    kept = kept_request(request, history, redaction)
    wire = WireLog()
    wire.received(status=401, error={"message": f"Malformed token: '{TOKEN}'", "code": "no"})
    flight = told(
        record(kept, response=redaction.facts(wire.response)),
        message(
            "a1",
            "assistant",
            f"Yes, {TOKEN} is secret",
            problem=Problem(code="x", message=f"refused {TOKEN}"),
        ),
        history,
        redaction,
    )
    everything = kept.model_dump_json() + flight.model_dump_json()

    for secret in (TOKEN, "hunter22", "abcdefgh"):
        assert secret not in everything
    assert flight.request is not None
    assert flight.request.url == f"http://{REMOVED}@host:1/v1?api_key={REMOVED}&x=1&token={REMOVED}"
    assert flight.request.body["max_tokens"] == 5
    assert (flight.response or {})["status"] == 401


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {REMOVED}"),
        ("see http://a:b@c/d and http://c/d@e", f"see http://{REMOVED}@c/d and http://c/d@e"),
        ("the key sk-proj-0123456789abcdef is bad", f"the key {REMOVED} is bad"),
        ("GET /x?password=p%20q&y=2", f"GET /x?password={REMOVED}&y=2"),
        ("max_tokens=5 and the bearer of news", "max_tokens=5 and the bearer of news"),
        (
            "a mask-and-desk-like word: risk-assessment",
            "a mask-and-desk-like word: risk-assessment",
        ),
    ],
)
def test_what_looks_like_a_secret_goes_and_ordinary_words_stay(text: str, clean: str) -> None:
    assert PLAIN.text(text) == clean


def test_what_a_person_wrote_is_told_to_the_letter_unless_it_is_this_desks_secret() -> None:
    text = "Explain `Authorization: Bearer abcdefgh123` and ?token=abc"
    history = [message("u1", "user", text)]
    kept = kept_request(sent(messages=[{"role": "user", "content": text}]), history, PLAIN)

    assert again(kept, history)["messages"][0]["content"] == text


def test_empty_secrets_are_no_secrets() -> None:
    assert Redaction(["", "abc"]).text("abc stays") == "abc stays"


def flown(usage: dict[str, Any] | None, *phases: Phase) -> dict[str, int | None]:
    stats = TurnStats(input_tokens=12, output_tokens=30)
    response = {"usage": usage} if usage else None
    flight: Flight = told(
        record(None, *phases, response=response),
        message("a", "assistant", "x", stats=stats.model_dump()),
        [],
        PLAIN,
    )
    return {phase.phase: phase.tokens for phase in flight.phases}


def test_tokens_stand_with_their_phase_as_far_as_anybody_counted() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 10}}

    assert flown(None, "reading", "writing") == {"reading": 12, "writing": 30}
    assert flown(None, "reading", "thinking") == {"reading": 12, "thinking": 30}
    assert flown(None, "thinking", "writing") == {"thinking": None, "writing": None}
    assert flown(details, "thinking", "writing") == {"thinking": 10, "writing": 20}
    assert flown(None, "writing", "loading", "writing") == {"writing": None, "loading": None}


def test_facts_add_up_and_none_is_larger_than_a_fact() -> None:
    wire = WireLog()
    assert wire.response is None
    wire.received(status=200, id="x", usage=None)
    wire.received(usage={"n": [1, None]}, odd={"text": "a" * 100_000}, long="b" * 100_000)
    response = wire.response or {}

    assert (response["status"], response["id"], response["usage"]) == (200, "x", {"n": [1, None]})
    assert all(len(str(response[name])) < MAX_FACT_CHARS + 100 for name in ("odd", "long"))
    assert response["long"].endswith("more characters)")
