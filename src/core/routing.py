"""Which model a request goes to: what there is, what it is worth for this, and why."""

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from core.families import billions, has_reasoning, has_tools, has_vision, size_points, traits
from core.models import ModelInfo
from core.preferences import Task
from core.speeds import Speed
from core.value import Value

# Room for the answer beside the question, in tokens.
ANSWER_TOKENS = 512
# What every model holds, where nobody says how much.
SURE_CONTEXT = 4096
# Weights of a file in memory, with buffers.
MEMORY_FACTOR = 1.15

RouteKind = Literal["asked", "auto"]


class Need(Value):
    """What a request asks of a model."""

    text: str = ""
    """The question, to tell the task by."""
    agent_id: str | None = None
    task: Task | None = None
    """Set where somebody said it; then nothing is guessed."""
    tokens: int = 0
    """Of the whole prompt, as far as known."""
    vision: bool = False
    tools: bool = False
    reasoning: bool = False
    """It shall think before it answers."""
    alternatives: tuple[str, ...] = ()
    """Models the agent wants, best first: names or patterns."""


class Candidate(Value):
    """A model the request may go to."""

    model: ModelInfo
    score: float
    reasons: tuple[str, ...] = ()
    """What counted, each with its points."""

    @property
    def model_id(self) -> str:
        return self.model.full_name


class PassedOver(Value):
    """A model the request does not go to."""

    model_id: str
    reason: str


class Route(Value):
    """Where a request goes, and why."""

    asked: str
    """What was asked for: `auto` or a name."""
    kind: RouteKind
    task: Task
    task_reasons: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    """Best first: the others are for when it fails before its first word."""
    passed_over: tuple[PassedOver, ...] = ()
    milliseconds: float = 0.0
    """What the choice took."""


class Here(NamedTuple):
    """What is known of a model on this machine now."""

    speed: Speed | None = None
    busy: int = 0
    """Requests under way and waiting at its provider."""
    local: bool = True
    """Whether it takes memory of this machine."""


class Machine(NamedTuple):
    """The memory models can have. Bytes; None is "not known"."""

    free: int | None = None
    total: int | None = None


def refusal(model: ModelInfo, need: Need, machine: Machine, here: Here) -> str | None:
    """Why the request must not go to this model; None when it may."""
    if model.kind != "llm":
        return "makes embeddings, cannot chat"
    if model.stale_since is not None:
        return "its provider cannot be reached"
    if need.vision and not has_vision(model):
        return "cannot see pictures"
    if need.tools and not has_tools(model):
        return "is not known to use tools"
    if need.reasoning and not has_reasoning(model):
        return "is not known to think first"
    window = context_of(model)
    wanted = need.tokens + ANSWER_TOKENS
    if need.tokens and window < wanted:
        return f"holds {window:,} tokens, {wanted:,} are needed"
    if here.local and not model.loaded and _too_big(model, machine.total):
        return "is larger than this machine's memory"
    return None


class Weighed(NamedTuple):
    """A model's worth, not yet in words: most are never shown."""

    model: ModelInfo
    score: float
    points: list[tuple[float, str]]

    def candidate(self) -> Candidate:
        return Candidate(
            model=self.model,
            score=self.score,
            reasons=tuple(f"{why} ({value:+.0f})" for value, why in self.points if round(value)),
        )


def weighed(
    model: ModelInfo,
    task: Task,
    *,
    preferred: tuple[str, ...],
    machine: Machine,
    here: Here,
    remote: bool,
) -> Weighed:
    """The model's worth for this task, here and now."""
    points: list[tuple[float, str]] = []
    if (rank := rank_in(preferred, model)) is not None:
        points.append((max(40.0, 100.0 - 10 * rank), f"number {rank + 1} of your preferences"))
    points += _by_task(model, task)
    count = billions(model)
    points.append((size_points(model), f"{count:g}B parameters" if count else "size not known"))
    points += _by_state(model, machine, here)
    if remote:
        points.append((-30.0, "on somebody else's computer"))
    return Weighed(model, round(sum(value for value, _ in points), 1), points)


def rank_in(wanted: Collection[str], model: ModelInfo) -> int | None:
    """The place of the first name or pattern that means this model; 0 is the best."""
    if not wanted:
        return None
    names = [name.casefold() for name in (model.full_name, model.id, model.name)]
    for rank, pattern in enumerate(wanted):
        if any(fnmatchcase(name, pattern.casefold()) for name in names):
            return rank
    return None


def context_of(model: ModelInfo) -> int:
    """Tokens it holds as it is, or can hold when it is loaded."""
    loaded = [i.context_length for i in model.instances if i.context_length]
    return max(loaded, default=0) or model.context_length or SURE_CONTEXT


def tokens_in(texts: Iterable[str]) -> int:
    """About how many tokens these texts are; a little too many rather than too few."""
    return sum(len(text.encode()) // 3 + 8 for text in texts)


def _by_task(model: ModelInfo, task: Task) -> list[tuple[float, str]]:
    said = traits(model.id)
    points: list[tuple[float, str]] = []
    if said.coder:
        points.append((30.0, "made for code") if task == "coding" else (-8.0, "made for code"))
    if has_reasoning(model) and task in ("analysis", "research"):
        points.append((10.0, "thinks before it answers"))
    if said.writer and task == "creative":
        points.append((8.0, "known for its writing"))
    if said.base:
        points.append((-30.0, "not made for conversations"))
    return points


def _by_state(model: ModelInfo, machine: Machine, here: Here) -> list[tuple[float, str]]:
    points: list[tuple[float, str]] = []
    speed = here.speed
    if model.loaded:
        points.append((25.0, "in memory already"))
    elif model.loadable:
        seconds = speed.load_seconds if speed and speed.load_seconds else None
        if seconds is None and model.size_bytes:
            points.append((-min(10.0, model.size_bytes / 2e9), "would have to be loaded"))
        elif seconds is not None:
            points.append((-min(20.0, seconds / 2), f"loads in about {seconds:.0f} s"))
        if here.local and _too_big(model, machine.free):
            points.append((-15.0, "others would have to go first"))
    if speed is not None and speed.tokens_per_second:
        points.append(
            (_speed_points(speed.tokens_per_second), f"{speed.tokens_per_second:.0f} tok/s here")
        )
    if here.busy:
        points.append((-5.0 * min(here.busy, 6), f"{here.busy} requests at it"))
    return points


def _speed_points(rate: float) -> float:
    """From -12 for what one cannot wait for to +8 for what is faster than one reads."""
    if rate < 5:
        return -12.0
    if rate < 12:
        return -4.0
    return 8.0 if rate >= 40 else 4.0


def _too_big(model: ModelInfo, room: int | None) -> bool:
    if room is None or not model.size_bytes:
        return False
    return model.size_bytes * MEMORY_FACTOR > room
