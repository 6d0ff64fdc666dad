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
    Here,
    Machine,
    Need,
    PassedOver,
    Route,
    RouteKind,
    Weighed,
    rank_in,
    refusal,
    weighed,
)
from core.speeds import Speed
from core.tasks import TaskGuess, guess_task

# Beyond these a chain is no help: each failure costs the person seconds.
CHAIN_LENGTH = 4
# Of those passed over nobody reads more.
TOLD = 50
ASKED_FOR = "asked for"
NOT_ALLOWED = "on somebody else's computer, which the settings do not allow"


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
        allowed = self._preferences().remote_fallback
        local = [each for each in candidates if not self._remote(each.model)]
        remote = [each for each in candidates if self._remote(each.model)]
        chain = [
            *local[:CHAIN_LENGTH],
            *[each for each in remote if each.model.provider in allowed][:CHAIN_LENGTH],
        ]
        closed = [
            (each.model, NOT_ALLOWED) for each in remote if each.model.provider not in allowed
        ]
        passed = [*passed, *closed]
        if not chain:
            raise _nothing_fits(need, passed)
        behind = [
            (each.model, f"{each.score:g} points, {chain[0].score:g} lead")
            for each in local[CHAIN_LENGTH : CHAIN_LENGTH + TOLD]
        ]
        return self._route(AUTO, "auto", guess, chain, [*passed, *behind])

    async def _asked_for(self, asked: str, need: Need, guess: TaskGuess) -> Route:
        """The model asked for, then those that the agent or the preferences name for its failure."""
        trouble: DeskError | None = None
        first: list[Weighed] = []
        try:
            model = await self._library.resolve(asked)
            first = [Weighed(model, 0.0, [])]
        except ModelNotFound:
            raise
        except ProviderError as error:
            trouble = error
        wanted = (*need.alternatives, *self._preferences().by_task.get(guess.task, ()))
        allowed = self._preferences().remote_fallback
        named: list[Weighed] = []
        passed: list[tuple[ModelInfo, str]] = []
        if wanted or allowed:
            others, passed = self._weighed(self._library.listed(), need, guess.task)
            named = [
                each
                for each in others
                if (rank_in(wanted, each.model) is not None and not self._remote(each.model))
                or each.model.provider in allowed
            ]
            named.sort(key=lambda each: (self._remote(each.model), _rank(wanted, each)))
        taken = {each.model.full_name for each in first}
        chain = [*first, *(c for c in named if c.model.full_name not in taken)][:CHAIN_LENGTH]
        if not chain and trouble is not None:
            raise trouble
        route = self._route(asked, "asked", guess, chain, passed if trouble else [])
        if trouble is not None:
            gone = PassedOver(model_id=asked, reason=trouble.message)
            return route.model_copy(update={"passed_over": (gone, *route.passed_over)})
        asked_for = route.candidates[0].model_copy(update={"reasons": (ASKED_FOR,)})
        return route.model_copy(update={"candidates": (asked_for, *route.candidates[1:])})

    def _weighed(
        self, models: tuple[ModelInfo, ...], need: Need, task: Task
    ) -> tuple[list[Weighed], list[tuple[ModelInfo, str]]]:
        """All that may answer, best first, and those that must not, with the reason."""
        machine = self._machine()
        wanted = (*need.alternatives, *self._preferences().by_task.get(task, ()))
        candidates: list[Weighed] = []
        passed: list[tuple[ModelInfo, str]] = []
        for model in models:
            if model.kind != "llm":
                continue
            here = self._here(model)
            reason = refusal(model, need, machine, here) or self._resting(model)
            if reason is not None:
                passed.append((model, reason))
                continue
            candidates.append(
                weighed(
                    model,
                    task,
                    preferred=wanted,
                    machine=machine,
                    here=here,
                    remote=self._remote(model),
                )
            )
        candidates.sort(key=lambda each: (-each.score, each.model.full_name))
        return candidates, passed

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
        chain: list[Weighed],
        passed: list[tuple[ModelInfo, str]],
    ) -> Route:
        return Route(
            asked=asked,
            kind=kind,
            task=guess.task,
            task_reasons=guess.reasons,
            candidates=tuple(each.candidate() for each in chain),
            passed_over=tuple(
                PassedOver(model_id=model.full_name, reason=reason)
                for model, reason in passed[:TOLD]
            ),
        )


def _rank(wanted: tuple[str, ...], each: Weighed) -> tuple[float, float]:
    rank = rank_in(wanted, each.model)
    return (float("inf") if rank is None else rank, -each.score)


def _nothing_fits(need: Need, passed: list[tuple[ModelInfo, str]]) -> DeskError:
    if not passed:
        return ModelNotFound(
            "There is no model to answer with.",
            hint="Start LM Studio's server, or put a GGUF file into the models folder.",
        )
    wants = [
        *(["sees pictures"] if need.vision else []),
        *(["uses tools"] if need.tools else []),
        *(["thinks before it answers"] if need.reasoning else []),
        *([f"holds {need.tokens:,} tokens"] if need.tokens else []),
    ]
    listed = "; ".join(f"{model.full_name}: {reason}" for model, reason in passed[:5])
    return NoModelFits(
        f"No model here {' and '.join(wants)}." if wants else "No model here can answer this.",
        hint=f"Passed over: {listed}.",
    )
