"""Router: chooses the models a request may go to, best first, and can say why."""

import time
from collections.abc import Callable
from typing import Protocol

from core.errors import DeskError, ModelNotFound, NoModelFits, ProviderError
from core.library import ModelLibrary
from core.models import ModelInfo
from core.monitor import HardwareMonitor
from core.preferences import AUTO, ModelPreferences, Task
from core.routing import (
    Candidate,
    Here,
    Machine,
    Need,
    PassedOver,
    Route,
    RouteKind,
    rank_in,
    refusal,
    scored,
)
from core.speeds import Speed
from core.tasks import TaskGuess, guess_task

# Beyond these a chain is no help: each failure costs the person seconds.
CHAIN_LENGTH = 4


class SpeedTeller(Protocol):
    """Knows how fast models are here, at once."""

    def speed_of(self, full_name: str, context_length: int | None = None) -> Speed | None: ...


class TaskTeller(Protocol):
    """Tells a request's task where the rules are not sure, such as by likeness of meaning."""

    async def task_of(self, text: str) -> TaskGuess | None:
        """None when it does not know either, or cannot be asked quickly."""
        ...


class Router:
    """Asks nobody: everything it weighs is at hand."""

    def __init__(
        self,
        library: ModelLibrary,
        speeds: SpeedTeller | None = None,
        monitor: HardwareMonitor | None = None,
        preferences: Callable[[], ModelPreferences] = ModelPreferences,
        *,
        likeness: TaskTeller | None = None,
    ) -> None:
        """`preferences` is asked each time: they change while the desk runs."""
        self._library = library
        self._speeds = speeds
        self._monitor = monitor
        self._preferences = preferences
        self._likeness = likeness

    async def route(self, name: str | None, need: Need) -> Route:
        """Where a request for this name, or for `auto`, goes; None is what the settings say.

        Raises ModelNotFound, ModelAmbiguous, what keeps the asked model's provider from answering
        where no other may answer instead, and NoModelFits.
        """
        began = time.monotonic()
        asked = (name or self._preferences().default).strip()
        guess = await self._guess(need)
        if asked.casefold() == AUTO:
            models = await self._library.models()
            route = self._chosen(models, need, guess)
        else:
            route = await self._asked_for(asked, need, guess)
        spent = (time.monotonic() - began) * 1000
        return route.model_copy(update={"milliseconds": round(spent, 3)})

    # -- inside ----------------------------------------------------------------------------------

    async def _guess(self, need: Need) -> TaskGuess:
        if need.task is not None:
            return TaskGuess(task=need.task, reasons=("asked for",), sure=True)
        guess = guess_task(need.text, agent_id=need.agent_id)
        if guess.sure or self._likeness is None:
            return guess
        return await self._likeness.task_of(need.text) or guess

    def _chosen(self, models: tuple[ModelInfo, ...], need: Need, guess: TaskGuess) -> Route:
        candidates, passed = self._weighed(models, need, guess.task)
        local = [c for c in candidates if not self._remote(c.model)]
        remote = [c for c in candidates if self._remote(c.model)]
        allowed = self._preferences().remote_fallback
        passed += [
            PassedOver(
                model_id=c.model_id,
                reason="on somebody else's computer, which the settings do not allow",
            )
            for c in remote
            if c.model.provider not in allowed
        ]
        remote = [c for c in remote if c.model.provider in allowed]
        chain = _best(local) + _best(remote)
        if not chain:
            raise _nothing_fits(need, passed)
        passed += [
            PassedOver(model_id=c.model_id, reason=f"{c.score:g} points, {chain[0].score:g} lead")
            for c in candidates
            if c not in chain and c not in remote
        ]
        return self._route(AUTO, "auto", guess, chain, passed)

    async def _asked_for(self, asked: str, need: Need, guess: TaskGuess) -> Route:
        """The model asked for, then those that the agent or the preferences name for its failure."""
        trouble: DeskError | None = None
        first: list[Candidate] = []
        try:
            model = await self._library.resolve(asked)
            first = [Candidate(model=model, score=0.0, reasons=("asked for",))]
        except ModelNotFound:
            raise
        except ProviderError as error:
            trouble = error
        others, passed = self._weighed(self._library.listed(), need, guess.task)
        wanted = (*need.alternatives, *self._preferences().by_task.get(guess.task, ()))
        allowed = self._preferences().remote_fallback
        named = [
            c
            for c in others
            if (rank_in(wanted, c.model) is not None and not self._remote(c.model))
            or c.model.provider in allowed
        ]
        named.sort(key=lambda c: (self._remote(c.model), _rank(wanted, c)))
        taken = {c.model_id for c in first}
        chain = [*first, *(c for c in named if c.model_id not in taken)][:CHAIN_LENGTH]
        if not chain and trouble is not None:
            raise trouble
        if trouble is not None:
            passed = [PassedOver(model_id=asked, reason=trouble.message), *passed]
        return self._route(asked, "asked", guess, chain, passed if trouble else [])

    def _weighed(
        self, models: tuple[ModelInfo, ...], need: Need, task: Task
    ) -> tuple[list[Candidate], list[PassedOver]]:
        """All that may answer, best first, and those that must not."""
        machine = self._machine()
        wanted = (*need.alternatives, *self._preferences().by_task.get(task, ()))
        candidates: list[Candidate] = []
        passed: list[PassedOver] = []
        for model in models:
            here = self._here(model)
            reason = refusal(model, need, machine, here) or self._resting(model)
            if reason is not None:
                if model.kind == "llm":
                    passed.append(PassedOver(model_id=model.full_name, reason=reason))
                continue
            candidates.append(
                scored(
                    model,
                    task,
                    preferred=wanted,
                    machine=machine,
                    here=here,
                    remote=self._remote(model),
                )
            )
        return sorted(candidates, key=lambda c: (-c.score, c.model_id)), passed

    def _here(self, model: ModelInfo) -> Here:
        line = self._library.gate(model.provider).line
        return Here(
            speed=self._speeds.speed_of(model.full_name) if self._speeds else None,
            busy=line.inside + line.waiting,
            local=model.loadable and not self._remote(model),
        )

    def _resting(self, model: ModelInfo) -> str | None:
        resting = self._library.gate(model.provider).breaker.state == "open"
        return "its provider failed several times just now" if resting else None

    def _remote(self, model: ModelInfo) -> bool:
        return self._library.config(model.provider).remote

    def _machine(self) -> Machine:
        sample = self._monitor.newest if self._monitor else None
        if sample is None:
            return Machine()
        totals = [gpu.memory_total for gpu in sample.gpus if gpu.memory_total]
        used = [gpu.memory_used for gpu in sample.gpus if gpu.memory_used is not None]
        free = sample.memory_total - sample.memory_used
        if totals:  # what does not fit on the GPUs goes partly to RAM
            return Machine(max(free, sum(totals) - sum(used)), sample.memory_total + sum(totals))
        return Machine(free, sample.memory_total)

    def _route(
        self,
        asked: str,
        kind: RouteKind,
        guess: TaskGuess,
        chain: list[Candidate],
        passed: list[PassedOver],
    ) -> Route:
        return Route(
            asked=asked,
            kind=kind,
            task=guess.task,
            task_reasons=guess.reasons,
            candidates=tuple(chain),
            passed_over=tuple(passed),
        )


def _best(candidates: list[Candidate]) -> list[Candidate]:
    return candidates[:CHAIN_LENGTH]


def _rank(wanted: tuple[str, ...], candidate: Candidate) -> tuple[float, float]:
    rank = rank_in(wanted, candidate.model)
    return (float("inf") if rank is None else rank, -candidate.score)


def _nothing_fits(need: Need, passed: list[PassedOver]) -> DeskError:
    if not passed:
        return ModelNotFound(
            "There is no model to answer with.",
            hint="Start LM Studio's server, or put a GGUF file into the models folder.",
        )
    wants = [
        *(["sees pictures"] if need.vision else []),
        *(["uses tools"] if need.tools else []),
        *([f"holds {need.tokens:,} tokens"] if need.tokens else []),
    ]
    listed = "; ".join(f"{each.model_id}: {each.reason}" for each in passed[:5])
    return NoModelFits(
        f"No model here {' and '.join(wants)}." if wants else "No model here can answer this.",
        hint=f"Passed over: {listed}.",
    )
