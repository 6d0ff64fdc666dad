"""What the page's scripts ask about measured speeds: the table of what this machine learned, and benchmarks."""

from typing import Any

from fastapi import APIRouter

from app import wording
from app.client import DeskClient
from app.replies import Reply
from core.jobs import JobInfo
from core.plan import size as memory_size
from core.speeds import BenchmarkFigures, LearnedModel

ENDINGS = {
    "stopped": "The benchmark was cancelled. Nothing of it is kept.",
    "interrupted": "The benchmark was interrupted.",
}


class BenchmarkAsked(Reply):
    """A model to measure."""

    model_id: str
    context_length: int | None = None


def add_learned(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/models/learned and /ui/models/benchmark."""

    @router.get("/models/learned")
    async def learned() -> list[dict[str, Any]]:
        return [learned_view(each) for each in await client.learned()]

    @router.post("/models/benchmark")
    async def benchmark(asked: BenchmarkAsked) -> dict[str, Any]:
        job = await client.start_benchmark(asked.model_id, context_length=asked.context_length)
        return benchmark_view(job)

    @router.get("/models/benchmark/{job_id}")
    async def progress(job_id: str) -> dict[str, Any]:
        return benchmark_view(await client.job(job_id))


def learned_view(row: LearnedModel) -> dict[str, Any]:
    """A row of the table: for each figure its words, its number to sort by, and its history."""
    provider, _, model_id = row.model_id.partition(":")
    context = f"{wording.context(row.context_length)} context" if row.context_length else None
    facts = [wording.PROVIDER_NAMES.get(provider, provider), context]
    return {
        "model_id": row.model_id,
        "context_length": row.context_length,
        "name": wording.short_model(model_id),
        "facts": wording.DOT.join(fact for fact in facts if fact),
        "counts": wording.DOT.join(_counts(row)),
        "benchmark": _benchmark(row.benchmark) if row.benchmark else None,
        "last_at": row.last_at,
        "load": _figure(row.load_seconds, row.load_history, _seconds),
        "memory": _figure(row.memory_bytes, row.memory_history, _bytes),
        "reading": _figure(row.prompt_tokens_per_second, row.prompt_history, _pace),
        "writing": _figure(row.tokens_per_second, row.writing_history, _pace),
    }


def benchmark_view(job: JobInfo) -> dict[str, Any]:
    """Where a benchmark is, or how it ended."""
    words = job.stage or wording.phase(
        job.phase, progress=job.progress, exact=job.exact, stage=None
    )
    if job.state != "running":
        words = ENDINGS.get(job.state, "Measured.")
    return {
        "job_id": job.id,
        "model_id": job.model_id,
        "state": job.state,
        # Of its own measuring; a load has another one.
        "progress": job.progress if job.phase in ("reading", "writing") else None,
        "words": job.error.message if job.error else wording.sentence_case(words),
        "hint": job.error.hint if job.error else "",
    }


def _figure(value: float | None, history: tuple[float, ...], words: Any) -> dict[str, Any]:
    return {
        "value": value,
        "words": "–" if value is None else words(value),
        "history": list(history),
        "range": f"{words(min(history))} to {words(max(history))}" if len(history) > 1 else "",
    }


def _seconds(value: float) -> str:
    return wording.duration(value)


def _bytes(value: float) -> str:
    return memory_size(int(value))


def _pace(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else wording.speed(value)


def _counts(row: LearnedModel) -> list[str]:
    counted = ((row.loads, "load"), (row.answers, "answer"))
    return [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counted if count]


def _benchmark(figures: BenchmarkFigures) -> str:
    said = [
        f"{label} {_pace(value)}"
        for label, value in (
            ("512 read at", figures.prompt_512),
            ("2,048 at", figures.prompt_2048),
            ("128 written at", figures.writing_128),
        )
        if value is not None
    ]
    return f"Benchmark: {', '.join(said)} tok/s" if said else "Benchmark: nothing could be measured"
