"""SwapPlan: what bringing a model into memory would need, and what would have to go for it."""

from collections.abc import Sequence
from typing import Literal

from core.taken import MemorySource
from core.value import Value

Pool = Literal["vram", "ram"]
NeedSource = Literal["server", "learned", "estimated"]


class ChatName(Value):
    """A chat that is being answered."""

    id: str
    title: str


class Resident(Value):
    """A model in memory, as the planner sees it."""

    model_id: str
    """Full name."""
    name: str
    context_length: int | None = None
    bytes: int | None = None
    """What all its instances take in this pool; None is "not known"."""
    source: MemorySource = "estimate"
    """How `bytes` is known."""
    ours: bool = False
    """Whether this program loaded it."""
    chats: tuple[ChatName, ...] = ()
    """Answers being written with it now."""


class Need(Value):
    """What a model would take."""

    bytes: int | None = None
    source: NeedSource = "estimated"
    refused: bool = False
    """The provider itself says it would not load it."""


class SwapPlan(Value):
    """A load, thought through. Sizes are bytes."""

    model_id: str
    name: str
    loaded: bool
    """It is in memory already: there is nothing to do."""
    pool: Pool
    need_bytes: int | None
    need_source: NeedSource
    free_bytes: int | None
    """None is "not known", as for a provider on another machine."""
    total_bytes: int | None
    residents: tuple[Resident, ...]
    """Ours first, the longest loaded first."""
    unload: tuple[str, ...]
    """Full names of those of ours that should go."""
    fits: bool | None
    """As things are. None is "cannot be known"."""
    fits_after: bool | None
    """Once `unload` is gone."""
    last_load_seconds: float | None
    sentences: tuple[str, ...]
    """All of this for a person."""


def plan(
    *,
    model_id: str,
    name: str,
    loaded: bool,
    pool: Pool,
    need: Need,
    free: int | None,
    total: int | None,
    residents: Sequence[Resident],
    last_load_seconds: float | None,
) -> SwapPlan:
    """Choose what has to go: of ours, the idle first, and none that is not needed."""
    fits = _fits(need, free)
    going: tuple[Resident, ...] = ()
    if fits is False and not loaded:
        going = _choose(residents, missing=_missing(need, free, total))
    freed = sum(each.bytes or 0 for each in going)
    after = _fits(need, None if free is None else free + freed) if going else fits
    unsure = after is False and any(each.bytes is None for each in going)
    if going and (need.refused or unsure):
        after = None  # what its own check says afterwards only the provider knows
    return SwapPlan(
        model_id=model_id,
        name=name,
        loaded=loaded,
        pool=pool,
        need_bytes=need.bytes,
        need_source=need.source,
        free_bytes=free,
        total_bytes=total,
        residents=tuple(residents),
        unload=tuple(each.model_id for each in going),
        fits=fits,
        fits_after=after,
        last_load_seconds=last_load_seconds,
        sentences=_sentences(name, pool, need, free, going, after, last_load_seconds),
    )


def _fits(need: Need, free: int | None) -> bool | None:
    if need.refused:
        return False
    if need.bytes is None or free is None:
        return None
    return need.bytes <= free


def _missing(need: Need, free: int | None, total: int | None) -> int | None:
    """How much must be freed; None is "all there is", because nobody can say how much."""
    if need.bytes is None or free is None:
        return None
    if need.refused and need.bytes <= free:
        return None
    if total is not None and need.bytes > total:
        return 0  # it never fits: nobody should lose a model for it
    return need.bytes - free


def _choose(residents: Sequence[Resident], *, missing: int | None) -> tuple[Resident, ...]:
    ours = [each for each in residents if each.ours]
    queue = [each for each in ours if not each.chats] + [each for each in ours if each.chats]
    if missing is None:
        return tuple(queue)
    chosen: list[Resident] = []
    for each in queue:
        if _bytes(chosen) >= missing:
            break
        chosen.append(each)
    for each in list(chosen):  # an early small one may not be needed beside a later big one
        if _bytes(chosen) - (each.bytes or 0) >= missing:
            chosen.remove(each)
    return tuple(chosen)


def _bytes(residents: Sequence[Resident]) -> int:
    return sum(each.bytes or 0 for each in residents)


def _sentences(
    name: str,
    pool: Pool,
    need: Need,
    free: int | None,
    going: Sequence[Resident],
    after: bool | None,
    seconds: float | None,
) -> tuple[str, ...]:
    memory = "graphics memory" if pool == "vram" else "memory"
    said = []
    if need.bytes is not None:
        about = "" if need.source == "learned" else "about "
        told = {"learned": " (measured here before)", "server": "", "estimated": " (an estimate)"}
        said.append(f"{name} needs {about}{size(need.bytes)} of {memory}{told[need.source]}.")
    if free is not None:
        said.append(f"{size(free)} is free.")
    if need.refused:
        said.append("Its server says that it would refuse to load it as things are.")
    if going:
        makes = "makes room for it" if after else "is not enough"
        if after is None:
            makes = "may make room for it; whether it does is not known before"
        said.append(f"Unloading {joined([each.name for each in going])} {makes}.")
    elif after is False:
        said.append("Nothing loaded from here could make room for it.")
    for each in going:
        if each.chats:
            chats = joined([f"“{chat.title}”" for chat in each.chats])
            said.append(f"{each.name} is writing an answer in {chats}.")
    if seconds is not None:
        said.append(f"It took {seconds:.1f} s to load the last time.")
    return tuple(said)


def joined(names: Sequence[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def size(count: int) -> str:
    """Bytes of memory; GB here is 2**30, as machines are sold."""
    if count >= 2**30:
        return f"{count / 2**30:.1f} GB"
    return f"{max(1, round(count / 2**20))} MB"
