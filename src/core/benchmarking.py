"""Benchmarks: how fast a model reads and writes on this machine, measured on request."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from statistics import median
from typing import Any, NamedTuple

from core.errors import BadParameter, ContextTooLong, DeskError
from core.jobs import Job, JobService
from core.learned import Learned
from core.leases import Lease
from core.library import ModelLibrary
from core.measuring import Measure, Measuring, Pace, Phase
from core.models import Instance, LoadOptions, ModelInfo
from core.speeds import ENOUGH_WRITTEN, SpeedRecord

PROMPTS: tuple[tuple[Measure, int], ...] = (("prompt_512", 512), ("prompt_2048", 2048))
WRITTEN = 128
# Prompts that had to be cut to less than this say nothing of their kind.
LEAST = {"prompt_512": 128, "prompt_2048": 1024}
# Kept free in the context besides the prompt.
SLACK = 48
# As often as it takes for a steady figure, within bounds.
MIN_ROUNDS, MAX_ROUNDS = 3, 8
STEADY_SPREAD = 0.05
SECONDS_A_MEASURE = 18.0


class Figure(NamedTuple):
    """A measured speed, the middle of its rounds."""

    measure: Measure
    tokens: int
    tokens_per_second: float
    rounds: int
    spread: float
    """Between the slowest and the fastest round, as a share of the middle."""
    timed_by: str
    """`server` or `clock`."""


class Benchmarks:
    """Starts benchmarks; one runs at a time, since two would slow each other down."""

    def __init__(self, library: ModelLibrary, jobs: JobService, learned: Learned) -> None:
        self._library = library
        self._jobs = jobs
        self._learned = learned
        self._one = asyncio.Lock()

    def start(self, model: ModelInfo, context_length: int | None = None) -> Job:
        """A job that measures the model, or the one that already does.

        With `context_length` it is loaded with that context for it. What was in memory before is so
        afterwards. Raises BadParameter for a model of vectors, NotLoadable for a context where there
        is no loading.
        """
        if model.kind == "embedding":
            raise BadParameter(
                f"{model.name} makes vectors and writes no text.",
                hint="Benchmark a language model.",
            )
        if context_length is not None:
            self._library.require_loadable(model)
        for job in self._jobs.list(state="running", kind="benchmark"):
            if job.model_id == model.full_name and job.ending is None:
                return job
        job = Job("benchmark", model_id=model.full_name)
        job.enter("queued")
        return self._jobs.start(job, lambda job: self._run(job, model, context_length))

    async def _run(self, job: Job, model: ModelInfo, context: int | None) -> None:
        job.enter("queued", stage="waiting for the benchmark before it")
        async with self._one:
            before = await self._library.instances(model) if model.loadable else ()
            try:
                await self._bring_in(job, model, before, context)
                await self._wait(job, model)
                async with self._library.lease(model, job) as lease:
                    result = await self._measure(job, lease)
            except BaseException:
                self._put_back(job, model, before, context)
                raise
            if (restoring := self._put_back(job, model, before, context)) is not None:
                job.enter("unloading", stage="leaving the memory as it was")
                await restoring.ended.wait()
            job.result = result

    async def _bring_in(
        self, job: Job, model: ModelInfo, before: tuple[Instance, ...], context: int | None
    ) -> None:
        if context is None or (before and before[0].context_length == context):
            return  # the lease loads it, if need be
        async with self._library.doors(model):
            if before:
                await self._library.take_out(model)
            await self._library.bring_in(job, model, LoadOptions(context_length=context))

    async def _wait(self, job: Job, model: ModelInfo) -> None:
        while self._library.leased_by(model):
            job.enter("queued", stage="waiting for the answers being written with it")
            await self._library.until_free(model)

    def _put_back(
        self, job: Job, model: ModelInfo, before: tuple[Instance, ...], context: int | None
    ) -> Job | None:
        """Leave the memory as it was found; the job that does so, None if there is nothing to do."""
        if not model.loadable or (job.ending is not None and job.ending[1] == "server_stopped"):
            return None
        if not before:
            with suppress(DeskError):  # in use by now, and so rightly there
                return self._library.start_unload(model)
            return None
        was = before[0].context_length
        if context is None or was == context:
            return None

        async def again(load: Job) -> None:
            async with self._library.doors(model):
                await self._library.take_out(model)
                await self._library.bring_in(load, model, LoadOptions(context_length=was))

        return self._library.start_load_by(model, again)

    async def _measure(self, job: Job, lease: Lease) -> dict[str, Any]:
        context = lease.instance.context_length
        job.emit("benchmark.start", model_id=lease.model.full_name, context_length=context)
        measuring = Measuring(self._library.provider(lease.model.provider), lease)
        job.enter("reading", 0.0, exact=False, stage="warming up")
        sizes = await measuring.calibrate()
        rounds = _Rounds(job, once=self._library.config(lease.model.provider).remote)
        figures: list[Figure] = []
        for place, (measure, wanted) in enumerate(PROMPTS):
            tokens = _fitting(job, lease, measure, wanted)
            if tokens is None:
                continue
            stage = f"reading {tokens:,} tokens"
            figure = await rounds.of(
                measure, place, "reading", stage, partial(measuring.read, tokens)
            )
            figures += [figure] if figure else []
        room = WRITTEN if context is None else int(min(WRITTEN, context - sizes.template - SLACK))
        stage = f"writing {room} tokens"
        written = await rounds.of(
            "writing_128", len(PROMPTS), "writing", stage, partial(measuring.write, room)
        )
        if written is None or written.tokens < ENOUGH_WRITTEN:
            said = f"{lease.model.name} ended its text early: too few tokens to tell its speed."
            job.emit("notice", code="too_short", message=said)
        else:
            figures.append(written)
        self._keep(lease, figures)
        return {
            "model_id": lease.model.full_name,
            "context_length": context,
            "load_time_seconds": lease.load_seconds,
            "figures": [figure._asdict() for figure in figures],
        }

    def _keep(self, lease: Lease, figures: list[Figure]) -> None:
        at = time.time()
        self._learned.note([_record(lease, figure, at) for figure in figures])


class _Rounds:
    """Repeats a measurement until it is steady, and says how far it is."""

    def __init__(self, job: Job, *, once: bool) -> None:
        """`once`: somebody else's computer, where each round may cost money."""
        self._job = job
        self._most = 1 if once else MAX_ROUNDS

    async def of(
        self,
        measure: Measure,
        place: int,
        phase: Phase,
        stage: str,
        ask: Callable[[], Awaitable[Pace | None]],
    ) -> Figure | None:
        """None when nothing could be measured."""
        began = time.monotonic()
        paces: list[Pace] = []
        for turn in range(1, self._most + 1):
            spent = time.monotonic() - began
            within = max((turn - 1) / self._most, min(1.0, spent / SECONDS_A_MEASURE))
            self._tell(measure, place, phase, stage, within, turn, paces)
            pace = await ask()
            if pace is None:
                break
            paces.append(pace)
            spent = time.monotonic() - began
            if _steady(paces) or spent + spent / turn > SECONDS_A_MEASURE:
                break
        if not paces:
            return None
        figure = _figure(measure, paces)
        self._job.emit("benchmark.measured", **figure._asdict())
        return figure

    def _tell(
        self,
        measure: Measure,
        place: int,
        phase: Phase,
        stage: str,
        within: float,
        turn: int,
        paces: list[Pace],
    ) -> None:
        progress = round((place + within) / (len(PROMPTS) + 1), 4)
        self._job.enter(phase, progress, exact=False, stage=f"{stage}, round {turn}")
        self._job.emit(
            "benchmark.progress",
            measure=measure,
            stage=stage,
            round=turn,
            progress=progress,
            tokens_per_second=round(paces[-1].tokens_per_second, 2) if paces else None,
        )


def _fitting(job: Job, lease: Lease, measure: Measure, wanted: int) -> int | None:
    """How many tokens of this prompt fit; None, with a notice, if too few do.

    Raises ContextTooLong where not even the smallest prompt fits.
    """
    context = lease.instance.context_length
    if context is None or context - SLACK >= wanted:
        return wanted
    room = context - SLACK
    message = f"{wanted:,} tokens do not fit in the context of {context:,}"
    if room >= LEAST[measure]:
        job.emit("notice", code="context_too_small", message=f"{message}; {room:,} are read.")
        return room
    if measure == PROMPTS[0][0]:
        raise ContextTooLong(
            f"{message}, and {room:,} are too few to measure.",
            hint="Benchmark it with a larger context.",
        )
    job.emit("notice", code="context_too_small", message=f"{message}; that prompt is left out.")
    return None


def _steady(paces: list[Pace]) -> bool:
    return len(paces) >= MIN_ROUNDS and _spread(paces[-MIN_ROUNDS:]) <= STEADY_SPREAD


def _spread(paces: list[Pace]) -> float:
    speeds = [pace.tokens_per_second for pace in paces]
    return (max(speeds) - min(speeds)) / median(speeds)


def _figure(measure: Measure, paces: list[Pace]) -> Figure:
    return Figure(
        measure=measure,
        tokens=round(median([pace.tokens for pace in paces])),
        tokens_per_second=round(median([pace.tokens_per_second for pace in paces]), 2),
        rounds=len(paces),
        spread=round(_spread(paces), 3),
        timed_by="server" if all(pace.by_server for pace in paces) else "clock",
    )


def _record(lease: Lease, figure: Figure, at: float) -> SpeedRecord:
    writing = figure.measure == "writing_128"
    return SpeedRecord(
        model_id=lease.model.full_name,
        context_length=lease.instance.context_length,
        prompt_tokens=None if writing else figure.tokens,
        prompt_tokens_per_second=None if writing else figure.tokens_per_second,
        output_tokens=figure.tokens if writing else None,
        tokens_per_second=figure.tokens_per_second if writing else None,
        source="benchmark",
        at=at,
    )
