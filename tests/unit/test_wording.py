"""Numbers, states and endings in the words a person reads."""

from datetime import UTC, datetime

import pytest

from app import wording
from core.chats import Message, ModelTruth, StopProof, TurnStats
from core.hardware import Gpu
from core.jobs import JobInfo
from core.memory_map import Program
from core.models import Capabilities, Instance, ModelInfo, ProviderHealth, ProviderState


def model(**facts: object) -> ModelInfo:
    return ModelInfo.model_validate(
        {"id": "qwen/qwen3-4b", "provider": "lmstudio", "name": "Qwen3 4B", **facts}
    )


def answer(**facts: object) -> Message:
    return Message.model_validate(
        {"id": "a", "chat_id": "c", "role": "assistant", "created_at": 0.0, **facts}
    )


@pytest.mark.parametrize(
    ("count", "words"),
    [(300, "1 kB"), (98_000_000, "98 MB"), (2_497_280_256, "2.5 GB"), (240_000_000_000, "240 GB")],
)
def test_a_size_reads_as_on_the_box(count: int, words: str) -> None:
    assert wording.size(count) == words


@pytest.mark.parametrize(
    ("tokens", "words"), [(512, "512"), (4096, "4k"), (32768, "32k"), (1500, "1.5k"), (8000, "8k")]
)
def test_a_context_is_counted_in_thousands(tokens: int, words: str) -> None:
    assert wording.context(tokens) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.42, "0.42 s"), (3.14159, "3.1 s"), (42.4, "42 s"), (60, "1 min"), (125, "2 min 5 s")],
)
def test_a_duration_gets_coarser_as_it_grows(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


def test_an_option_says_state_quantization_size_and_the_context_there_really_is() -> None:
    loaded = model(
        state="loaded",
        instances=(Instance(id="x", context_length=8192),),
        quantization="Q4_K_M",
        size_bytes=2_497_280_256,
        context_length=32768,
    )
    assert wording.option_label(loaded, with_provider=False) == "● Qwen3 4B · Q4_K_M · 2.5 GB · 8k"


def test_an_option_leaves_out_what_is_not_known_and_names_the_provider_among_several() -> None:
    assert wording.option_label(model(), with_provider=True) == "○ Qwen3 4B · LM Studio"
    remote = model(provider="hub", loadable=False)
    assert wording.option_label(remote, with_provider=True) == "◇ Qwen3 4B · hub"


def test_the_card_tells_loaded_context_from_possible_context() -> None:
    facts = dict(
        wording.model_facts(
            model(
                instances=(Instance(id="x", context_length=8192),),
                context_length=32768,
                capabilities=Capabilities(tools=True, vision=True, reasoning=False),
            )
        )
    )
    assert facts["Context"] == "8k of 32k tokens"
    assert facts["Can"] == "vision, tools"
    assert "Size" not in facts


def test_days_are_the_readers_own() -> None:
    now = datetime(2026, 3, 10, 23, 30, tzinfo=UTC).timestamp()
    hour_ago = now - 3600

    def group(at: float, offset: int = 0) -> str:
        return wording.day_group(at, now=now, utc_offset_minutes=offset)

    assert group(hour_ago) == "Today"
    # East of Greenwich it is past midnight now, and an hour ago it was not.
    assert group(hour_ago, 60) == "Yesterday"
    assert group(now - 3 * 86400) == "Previous 7 days"
    assert group(now - 20 * 86400) == "Previous 30 days"
    assert group(datetime(2025, 12, 3, tzinfo=UTC).timestamp()) == "December 2025"
    assert group(now + 5) == "Today"


@pytest.mark.parametrize(
    ("status", "reason", "label"),
    [
        ("done", "stop", None),
        ("done", "length", "Stopped at the token limit"),
        ("stopped", "user", "Stopped"),
        ("interrupted", "model_changed", "Ended because the model was changed"),
        ("interrupted", "something_new", "Interrupted"),
        ("failed", "model_load_failed", None),
    ],
)
def test_an_answer_that_did_not_end_by_itself_says_so(
    status: str, reason: str, label: str | None
) -> None:
    assert wording.ending(answer(status=status, reason=reason)) == label


def test_another_model_than_the_asked_one_is_named() -> None:
    asked = "lmstudio:qwen/qwen3-4b"
    assert wording.difference(ModelTruth(asked=asked, answered="qwen/qwen3-4b")) is None
    twin = ModelTruth(asked=asked, answered="qwen/qwen3-4b:2", instance_id="qwen/qwen3-4b:2")
    assert wording.difference(twin) is None
    other = ModelTruth(asked=asked, answered="meta/llama-3-8b")
    assert wording.difference(other) == "Asked for qwen3-4b, llama-3-8b answered"
    short = ModelTruth(asked=asked, asked_context=32768, got_context=4096)
    assert wording.difference(short) == "Asked for 32k context, got 4k"


def test_statistics_leave_out_what_is_not_known() -> None:
    full = TurnStats(tokens_per_second=45.4, time_to_first_token_seconds=0.42, output_tokens=1)
    assert wording.stats_line(answer(stats=full)) == ["45 tok/s", "first token 0.42 s", "1 token"]
    assert wording.stats_line(answer(stats=TurnStats())) == []
    assert wording.stats_line(answer()) == []


def test_an_estimated_share_is_marked() -> None:
    def loading(exact: bool) -> str:
        return wording.phase("loading", progress=0.4, exact=exact, stage="reading weights")

    assert loading(True) == "Loading the model 40% · reading weights"
    assert loading(False) == "Loading the model ~40% · reading weights"
    assert wording.phase("reading", progress=None, exact=None, stage=None) == "Reading the prompt"


def health(provider: str, kind: str, state: ProviderState, **more: str) -> ProviderHealth:
    return ProviderHealth.model_validate(
        {"provider": provider, "kind": kind, "state": state, "url": "http://x", "message": "m."}
        | more
    )


def test_the_status_bar_speaks_of_the_provider_that_works() -> None:
    away = health("lmstudio", "lmstudio", "unreachable", hint="Start it.")
    own = health("embedded", "embedded", "ready")
    state, words, detail = wording.providers_state((away, own))
    assert (state, words) == ("ok", "Built-in engine connected")
    assert detail == "LM Studio: m. Start it.\nBuilt-in engine: m."
    assert wording.providers_state((away,))[:2] == ("off", "LM Studio not running")
    starting = health("embedded", "embedded", "starting")
    assert wording.providers_state((away, starting))[:2] == ("wait", "Built-in engine starting")
    assert wording.providers_state(())[0] == "off"


def test_a_gpu_tells_temperature_and_power_as_far_as_it_can() -> None:
    gpu = Gpu(index=0, name="G", temperature_celsius=61.4, power_watts=80.2, power_limit_watts=450)
    assert wording.gpu_detail(gpu) == "61 °C · 80 / 450 W"
    assert wording.gpu_detail(Gpu(index=0, name="G")) == ""


def test_what_a_model_takes_says_how_that_is_known() -> None:
    assert wording.memory_taken(3 * 2**30, "process") == "3.0 GB, its process"
    assert wording.memory_taken(3 * 2**30, "load") == "3.0 GB, measured at its load"
    assert wording.memory_taken(700 * 2**20, "estimate") == "about 700 MB, an estimate"
    assert wording.memory_taken(None, "estimate") == "size not known"


def test_other_programs_are_named_as_far_as_they_are_known() -> None:
    def program(name: str, gigabytes: float) -> Program:
        return Program(name=name, bytes=int(gigabytes * 2**30))

    count = int(3.1 * 2**30)
    chrome, screen = program("chrome", 1.2), program("Xorg", 0.4)
    assert wording.other_programs(count, []) == "3.1 GB"
    assert wording.other_programs(count, [chrome, screen]) == "3.1 GB (chrome 1.2, Xorg 0.4, …)"
    whole = [program("chrome", 2.7), screen]
    assert wording.other_programs(count, whole) == "3.1 GB (chrome 2.7, Xorg 0.4)"
    small = [program("Xorg", 0.25)]
    assert wording.other_programs(400 * 2**20, small) == "400 MB (Xorg 256, …)"
    assert wording.other_programs(count, [program("tiny", 0.01)]) == "3.1 GB"


def test_an_answer_names_model_quantization_and_context_as_far_as_they_are_known() -> None:
    asked = "lmstudio:qwen/qwen3-4b"
    full = ModelTruth(asked=asked, quantization="Q4_K_M", got_context=8192)
    assert wording.written_with(full) == ["qwen3-4b", "Q4_K_M", "8k context"]
    assert wording.written_with(ModelTruth(asked=asked)) == ["qwen3-4b"]


def test_two_differences_are_one_sentence() -> None:
    truth = ModelTruth(
        asked="lmstudio:a", answered="b", asked_context=32768, got_context=4096, instance_id="a"
    )
    assert wording.difference(truth) == "Asked for a, b answered; asked for 32k context, got 4k"


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        (StopProof(state="idle", seconds=0.42), "idle after 0.4 s"),
        (StopProof(state="idle", seconds=0.01), "idle after 0.1 s"),
        (
            StopProof(state="busy", seconds=3.0, doing="reading"),
            "still reading the prompt 3.0 s later",
        ),
        (StopProof(state="busy", seconds=3.0, doing="generating"), "still writing 3.0 s later"),
        (StopProof(state="busy", seconds=3.0), "still busy 3.0 s later"),
        (StopProof(state="unknown"), None),
    ],
)
def test_a_stop_tells_what_the_model_did_after_it(proof: StopProof, words: str | None) -> None:
    assert wording.stop_proof(proof) == words


def test_a_wait_says_what_it_is_for() -> None:
    def waiting(name: str, stage: str | None) -> str:
        return wording.phase(name, progress=None, exact=None, stage=stage)

    assert waiting("queued", None) == "Waiting its turn"
    assert waiting("queued", "waiting for the answer in “A” to end") == (
        "Waiting for the answer in “A” to end"
    )
    assert waiting("unloading", "taking A out of memory") == "Taking A out of memory"
    assert waiting("loading", "bringing A back") == "Bringing A back"


def load(**facts: object) -> JobInfo:
    return JobInfo.model_validate(
        {"id": "j", "kind": "load", "state": "running", "phase": "loading"}
        | {"created_at": 90.0, "phase_at": 100.0, "usual_seconds": 5.0}
        | facts
    )


@pytest.mark.parametrize(
    ("job", "now", "left", "late"),
    [
        (load(), 102.0, "about 3 s left", False),
        (load(), 104.8, None, False),
        (load(), 107.0, None, False),
        (load(), 109.0, None, True),
        (load(usual_seconds=None), 102.0, None, False),
        (load(usual_seconds=125.0), 100.0, "about 2 min 5 s left", False),
        (load(phase="queued"), 109.0, None, False),
    ],
)
def test_a_load_goes_by_the_last_one(
    job: JobInfo, now: float, left: str | None, late: bool
) -> None:
    assert wording.time_left(job, now=now) == left
    assert wording.is_late(job, now=now) is late
