"""What the table of measured speeds says, and where a benchmark is, in words."""

from app.learned_ui import benchmark_view, learned_view
from core.chats import Problem
from core.jobs import JobInfo
from core.speeds import BenchmarkFigures, LearnedModel


def test_a_row_says_each_figure_with_its_history() -> None:
    view = learned_view(
        LearnedModel(
            model_id="lmstudio:qwen/qwen3-4b",
            context_length=8192,
            load_seconds=2.5,
            loads=1,
            memory_bytes=4 * 2**30,
            prompt_tokens_per_second=1234.5,
            tokens_per_second=41.0,
            answers=2,
            load_history=(2.5,),
            writing_history=(40.0, 42.0),
            benchmark=BenchmarkFigures(prompt_512=1200.0, writing_128=9.5, at=3.0),
            last_at=3.0,
        )
    )

    assert (view["name"], view["facts"]) == ("qwen3-4b", "LM Studio · 8k context")
    assert view["counts"] == "1 load · 2 answers"
    assert view["load"]["words"] == "2.5 s"
    assert view["memory"]["words"] == "4.0 GB"
    assert view["reading"] == {"value": 1234.5, "words": "1,234", "history": [], "range": ""}
    assert view["writing"]["range"] == "40 to 42"
    assert view["benchmark"] == "Benchmark: 512 read at 1,200, 128 written at 9.5 tok/s"


def test_what_was_never_measured_is_a_dash() -> None:
    view = learned_view(LearnedModel(model_id="lm:m", context_length=None, last_at=1.0))

    assert [view[key]["words"] for key in ("load", "memory", "reading", "writing")] == ["–"] * 4
    assert (view["facts"], view["counts"], view["benchmark"]) == ("lm", "", None)


def job(**facts: object) -> JobInfo:
    return JobInfo.model_validate(
        {
            "id": "j",
            "kind": "benchmark",
            "state": "running",
            "created_at": 1,
            "phase_at": 1,
            **facts,
        }
    )


def test_a_benchmark_says_where_it_is_and_how_it_ended() -> None:
    reading = benchmark_view(
        job(phase="reading", progress=0.25, stage="reading 512 tokens, round 2")
    )
    loading = benchmark_view(job(phase="loading", progress=0.9, stage="reading weights"))
    cancelled = benchmark_view(job(state="stopped", stage="reading 512 tokens, round 2"))
    problem = Problem(code="model_crashed", message="It crashed.", hint="Load it again.")
    failed = benchmark_view(job(state="failed", error=problem.model_dump()))

    assert (reading["words"], reading["progress"]) == ("Reading 512 tokens, round 2", 0.25)
    assert (loading["words"], loading["progress"]) == ("Reading weights", None)
    assert "Nothing of it is kept" in cancelled["words"]
    assert (failed["words"], failed["hint"]) == ("It crashed.", "Load it again.")
