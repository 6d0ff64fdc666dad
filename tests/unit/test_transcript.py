"""What the Chatbots get, and what stands under each row."""

from app.live import LiveAnswer
from app.replies import JobEvent
from app.transcript import ASKED, SHOWN, as_written, transcript
from core.chats import Message, ModelTruth, Problem, StopProof, TurnStats
from core.jobs import JobInfo


def message(number: int, role: str, **facts: object) -> Message:
    return Message.model_validate(
        {"id": f"m{number}", "chat_id": "c", "role": role, "created_at": float(number)} | facts
    )


def talk(pairs: int) -> tuple[Message, ...]:
    told: list[Message] = []
    for number in range(pairs):
        told.append(message(2 * number, "user", content=f"question {number}"))
        told.append(message(2 * number + 1, "assistant", content=f"answer {number}"))
    return tuple(told)


def test_each_row_on_the_page_has_its_facts() -> None:
    stats = TurnStats(tokens_per_second=45.0, output_tokens=12)
    told = transcript(
        (
            message(1, "user", content="Why?"),
            message(
                2,
                "assistant",
                content="Because.",
                reasoning="Hm.",
                stats=stats,
                model=ModelTruth(asked="lmstudio:qwen/qwen3-4b"),
                siblings=("m2", "m9"),
            ),
        )
    )
    assert [entry["role"] for entry in told.messages] == ["user", "assistant", "assistant"]
    assert told.messages[1]["metadata"] == {"title": "Thoughts", "status": "done"}
    assert [row["role"] for row in told.rows] == ["user", "assistant"]
    assert told.rows[1]["facts"] == ["qwen3-4b", "45 tok/s", "12 tokens"]
    assert told.rows[1]["siblings"] == ["m2", "m9"]
    assert told.rows[0]["siblings"] == []


def test_an_answer_still_being_written_is_left_to_the_live_half() -> None:
    told = transcript((message(1, "user", content="Hi"), message(2, "assistant", status="writing")))
    assert [row["id"] for row in told.rows] == ["m1"]


def test_an_answer_that_failed_before_its_first_word_keeps_a_row_for_its_problem() -> None:
    problem = Problem(code="model_load_failed", message="It does not fit.", hint="Unload one.")
    told = transcript(
        (
            message(1, "user", content="Hi"),
            message(2, "assistant", status="failed", problem=problem),
        )
    )
    assert len(told.messages) == 2
    assert told.rows[1]["empty"] is True
    assert told.rows[1]["problem"]["hint"] == "Unload one."


def test_neighbours_of_one_role_share_a_row_as_on_the_page() -> None:
    told = transcript(
        (
            message(1, "user", content="one"),
            message(2, "user", content="two"),
            message(3, "assistant", content="three"),
        )
    )
    assert [row["id"] for row in told.rows] == ["m2", "m3"]
    assert told.rows[0]["text"] == "one\n\ntwo"


def test_a_long_chat_shows_its_end_until_asked_for_everything() -> None:
    long = talk(SHOWN)
    short = transcript(long)
    assert (len(short.rows), short.hidden) == (SHOWN, SHOWN)
    assert short.rows[-1]["text"] == f"answer {SHOWN - 1}"
    assert transcript(long, everything=True).hidden == 0


def test_the_few_tags_that_markdown_lacks_work_in_answers() -> None:
    kept = "| a<br>b | H<sub>2</sub>O | <https://example.org/?a=1&b=2> |"
    assert as_written(kept) == kept
    assert as_written("<br onclick=x> <sub id=1>") == "&lt;br onclick=x> &lt;sub id=1>"
    assert as_written("a<br>b", keep=ASKED) == "a&lt;br>b"


def test_an_answer_and_its_thoughts_are_shown_as_written() -> None:
    answer = message(1, "assistant", content="<img src=x>", reasoning="<b>hm</b>")
    assert [entry["content"] for entry in transcript((answer,)).messages] == [
        "&lt;b>hm&lt;/b>",
        "&lt;img src=x>",
    ]


def test_what_a_person_wrote_is_shown_as_written() -> None:
    assert as_written("a <b>bold</b> & more") == "a &lt;b>bold&lt;/b> &amp; more"
    assert as_written("`a<b` and <i>") == "`a<b` and &lt;i>"
    assert as_written("```html\n<p>&amp;</p>\n```\n<p>") == "```html\n<p>&amp;</p>\n```\n&lt;p>"
    assert as_written("```\n<unfinished") == "```\n<unfinished"
    assert as_written("``a ` <b``<i>") == "``a ` <b``&lt;i>"


def job(**facts: object) -> JobInfo:
    return JobInfo.model_validate(
        {"id": "j", "kind": "turn", "state": "running", "created_at": 0.0, "phase_at": 0.0} | facts
    )


def event(number: int, type_: str, **data: object) -> JobEvent:
    return JobEvent(number, type_, {"type": type_, **data})


def test_the_live_answer_goes_through_its_phases() -> None:
    answer = LiveAnswer(job(phase="queued"))
    assert answer.state()["words"] == "Waiting its turn"
    answer.take(event(1, "model_load.progress", progress=0.5, exact=True, stage="reading weights"))
    assert answer.state()["words"] == "Loading the model 50% · reading weights"
    answer.take(event(2, "prompt_processing.progress", progress=0.25))
    assert answer.state()["words"] == "Reading the prompt 25%"
    assert answer.messages() == []
    answer.take(event(3, "reasoning.delta", content="Hm."))
    assert answer.messages()[0]["metadata"] == {"title": "Thinking · 0 s", "status": "pending"}
    answer.take(event(4, "message.delta", content="Be"))
    answer.take(event(9, "message.delta", content="cause it is so."))
    thought, text = answer.messages()
    assert thought["metadata"]["status"] == "done"
    assert thought["metadata"]["title"].startswith("Thought for 0.")
    assert text["content"] == "Because it is so."
    # A merged event is as many tokens as it has numbers.
    assert answer.state()["tokens"] == 1 + 1 + 5
    assert answer.ended is None
    answer.take(event(10, "job.end", status="done"))
    assert answer.ended is not None


def test_what_turns_out_to_be_thinking_is_shown_as_that() -> None:
    answer = LiveAnswer(job(phase="reading"))
    answer.take(event(1, "message.delta", content="Okay, 42."))
    answer.take(event(2, "message.was_thinking"))
    (thought,) = answer.messages()
    assert thought["content"] == "Okay, 42."
    assert thought["metadata"]["title"] == "Thinking · 0 s"
    assert answer.phase == "thinking"
    answer.take(event(3, "message.delta", content="It is 42."))
    thought, text = answer.messages()
    assert thought["metadata"]["title"].startswith("Thought for 0.")
    assert text["content"] == "It is 42."


def test_a_late_watcher_gets_the_text_so_far_and_the_phase_of_now() -> None:
    answer = LiveAnswer(job(phase="writing", phase_at=5.0, last_event=40))
    answer.take(event(20, "reasoning.delta", content="Long ago."))
    answer.take(event(40, "message.delta", content="So far."))
    assert answer.phase == "writing"
    assert answer.messages()[0]["metadata"]["title"] == "Thoughts"
    assert answer.messages()[1]["content"] == "So far."
    assert answer.state()["age"] > 1000


def test_a_tick_changes_nothing() -> None:
    answer = LiveAnswer(job(phase="reading", progress=0.5))
    before = answer.state()["words"]
    answer.take(JobEvent(None, "tick", {"type": "tick", "seconds": 1}))
    assert answer.state()["words"] == before == "Reading the prompt 50%"


def test_a_row_tells_a_stop_that_did_not_take_and_what_to_eject() -> None:
    proof = StopProof(state="busy", seconds=3.0, doing="reading")
    told = transcript(
        (
            message(1, "user", content="Why?"),
            message(
                2,
                "assistant",
                status="stopped",
                model=ModelTruth(asked="lmstudio:a"),
                stats=TurnStats(stop_proof=proof),
            ),
        )
    )
    row = told.rows[1]
    assert (row["label"], row["busy"]) == ("Stopped", True)
    assert row["proof"] == "still reading the prompt 3.0 s later"
    assert row["model_id"] == "lmstudio:a"


def test_only_an_answer_that_lost_its_model_goes_on_with_one_click() -> None:
    def lost(status: str, reason: str) -> bool:
        told = transcript((message(1, "assistant", status=status, reason=reason),))
        return bool(told.rows[0]["lost_model"])

    assert lost("interrupted", "model_crashed")
    assert lost("interrupted", "model_changed")
    assert lost("interrupted", "model_unloaded")
    assert not lost("interrupted", "server_stopped")
    assert not lost("stopped", "user")
