"""What the page's scripts ask about how an answer was made: its timeline in shares and words."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response

from app import wording
from app.client import DeskClient
from core.flight import Flight, FlightPhase
from core.timeline import Phase
from core.trace import MachineTrace

LABELS: dict[Phase, str] = {
    "queued": "Queue",
    "unloading": "Unload",
    "loading": "Load",
    "reading": "Read prompt",
    "thinking": "Think",
    "writing": "Write",
    "tools": "Tools",
    "downloading": "Download",
}
WAITS: set[Phase] = {"queued", "unloading", "loading"}
# A shorter wait was none: it took longer to look than to wait.
SHORTEST_WAIT = 0.001
MAX_STAGES = 3


def add_flights(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/messages."""

    @router.get("/messages/{message_id}/flight")
    async def flight(message_id: str) -> dict[str, Any]:
        return flight_view(await client.flight(message_id))

    @router.get("/messages/{message_id}/flight/export")
    async def export(message_id: str) -> Response:
        disposition, content = await client.flight_file(message_id)
        headers = {"content-disposition": disposition, "cache-control": "no-store"}
        return Response(content, media_type="application/json", headers=headers)


def flight_view(flight: Flight) -> dict[str, Any]:
    """What the dialog shows. Places on the time axis are shares of the whole, from 0 to 1."""
    whole = max([flight.seconds, *(p.start + p.seconds for p in flight.phases), 0.001])
    return {
        "message_id": flight.message_id,
        "started_at": flight.started_at,
        "facts": _facts(flight),
        "ticks": [wording.duration(share * whole) if share else "0 s" for share in (0, 0.5, 1)],
        "phases": _phases(flight.phases, whole),
        "lanes": _lanes(flight.trace, whole),
        "request": flight.request.model_dump() if flight.request else None,
        "response": flight.response,
    }


def _facts(flight: Flight) -> list[str]:
    truth = flight.model
    answered = wording.written_with(truth) if truth else []
    provider = wording.provider_name(flight.provider_kind, flight.provider)
    instance = f"instance {truth.instance_id}" if truth and truth.instance_id else None
    facts = [*answered, provider, instance, f"took {wording.duration(flight.seconds)}"]
    return [fact for fact in facts if fact]


def _phases(phases: Sequence[FlightPhase], whole: float) -> list[dict[str, Any]]:
    """A row for each kind of phase, in the order of their first ones."""
    kinds: dict[Phase, list[FlightPhase]] = {}
    for phase in phases:
        kinds.setdefault(phase.phase, []).append(phase)
    return [
        _row(kind, group, whole)
        for kind, group in kinds.items()
        if kind not in WAITS or sum(each.seconds for each in group) >= SHORTEST_WAIT
    ]


def _row(kind: Phase, group: Sequence[FlightPhase], whole: float) -> dict[str, Any]:
    counts = [phase.tokens for phase in group if phase.tokens is not None]
    stages = dict.fromkeys(
        wording.sentence_case(mark["stage"])
        for phase in group
        for mark in phase.marks
        if mark["stage"]
    )
    return {
        "phase": kind,
        "label": LABELS[kind],
        "words": wording.duration(sum(phase.seconds for phase in group)),
        "tokens": f"{sum(counts)} token{'' if sum(counts) == 1 else 's'}" if counts else None,
        "times": len(group),
        "stages": list(stages)[:MAX_STAGES],
        "bars": [{"start": phase.start / whole, "share": phase.seconds / whole} for phase in group],
    }


def _lanes(trace: MachineTrace, whole: float) -> list[dict[str, Any]]:
    """The machine's curves: points of place and value, both as shares; None where not known."""
    several = len(trace.gpus) > 1
    lanes = []
    for gpu in trace.gpus:
        number = f" {gpu.index}" if several else ""
        busy = [None if value is None else value / 100 for value in gpu.utilization_percent]
        lanes.append(_percent(f"GPU{number}", trace, busy, whole, title=gpu.name))
        lanes.append(
            _memory(f"VRAM{number}", trace, gpu.memory_used, gpu.memory_total, whole, gpu.name)
        )
    cpu = [value / 100 for value in trace.cpu_percent]
    cores = f"{trace.cpu_count} cores" if trace.cpu_count else ""
    lanes.append(_percent("CPU", trace, cpu, whole, title=cores))
    lanes.append(_memory("RAM", trace, trace.memory_used, trace.memory_total, whole, ""))
    return [lane for lane in lanes if lane["words"]]


def _percent(
    label: str, trace: MachineTrace, shares: Sequence[float | None], whole: float, *, title: str
) -> dict[str, Any]:
    known = [share for share in shares if share is not None]
    words = _range(f"{min(known):.0%}", f"{max(known):.0%}") if known else ""
    return _lane(label, title, words.replace("%", " %"), trace, shares, whole)


def _memory(
    label: str,
    trace: MachineTrace,
    used: Sequence[int | None],
    total: int | None,
    whole: float,
    title: str,
) -> dict[str, Any]:
    known = [count for count in used if count is not None]
    words = ""
    if known and total:
        words = f"{_range(wording.memory(min(known)), wording.memory(max(known)))} GB"
    shares = [None if count is None or not total else count / total for count in used]
    return _lane(label, title, words, trace, shares, whole)


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low.removesuffix('%')}–{high}"


def _lane(
    label: str,
    title: str,
    words: str,
    trace: MachineTrace,
    shares: Sequence[float | None],
    whole: float,
) -> dict[str, Any]:
    points = [(round(at / whole, 5), share) for at, share in zip(trace.at, shares, strict=True)]
    return {"label": label, "title": title, "words": words, "points": points}
