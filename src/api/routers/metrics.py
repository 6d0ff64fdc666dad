"""`GET /metrics`: what this LM Desk does and on what machine, for Prometheus."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import get_args

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse

from api.gateway.meter import FIRST_BYTE_BOUNDS, Counts, Meter
from api.services import Desk, Services
from core.hardware import HardwareSnapshot
from core.jobs import JobKind
from core.version import VERSION

router = APIRouter(tags=["health"])

TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[dict[str, str], float]


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, desk: Desk) -> PlainTextResponse:
    """Counters and gauges in Prometheus' text format."""
    meter: Meter = request.app.state.meter
    lines = [*_gateway(meter), *_desk(desk)]
    if (sample := desk.monitor.newest) is not None:
        lines += _machine(sample)
    return PlainTextResponse("\n".join(lines) + "\n", media_type=TYPE)


def _gateway(meter: Meter) -> Iterator[str]:
    by_provider = list(meter.providers.items())

    def each(value: str) -> list[Sample]:
        return [({"provider": name}, getattr(counts, value)) for name, counts in by_provider]

    counted = "gateway_requests_total", "gateway_failures_total"
    yield from _metric(counted[0], "counter", "Requests sent to a provider.", each("requests"))
    yield from _metric(
        counted[1], "counter", "Requests it did not answer to the end.", each("failures")
    )
    yield from _metric("gateway_running", "gauge", "Requests under way.", each("running"))
    tokens = [
        ({"provider": name, "direction": way}, float(getattr(counts, f"{way}_tokens")))
        for name, counts in by_provider
        for way in ("input", "output")
    ]
    yield from _metric("gateway_tokens_total", "counter", "Tokens read and written.", tokens)
    yield from _first_bytes(by_provider)
    yield from _metric(
        "gateway_refused_total",
        "counter",
        "Requests that reached no provider.",
        [({}, meter.refused)],
    )
    yield from _metric(
        "gateway_left_total", "counter", "Requests whose client left.", [({}, meter.left)]
    )
    yield from _metric(
        "gateway_fallbacks_total",
        "counter",
        "Requests answered by another model than the first choice.",
        [({}, meter.fallbacks)],
    )


def _first_bytes(by_provider: list[tuple[str, Counts]]) -> Iterator[str]:
    name = "lmdesk_gateway_first_byte_seconds"
    yield f"# HELP {name} From the request to the first byte of its answer."
    yield f"# TYPE {name} histogram"
    for provider, counts in by_provider:
        label = f'provider="{_escaped(provider)}"'
        total = 0
        for bound, count in zip((*FIRST_BYTE_BOUNDS, "+Inf"), counts.first_byte, strict=True):
            total += count
            yield f'{name}_bucket{{{label},le="{bound}"}} {total}'
        yield f"{name}_sum{{{label}}} {counts.first_byte_sum:.6f}"
        yield f"{name}_count{{{label}}} {total}"


def _desk(desk: Services) -> Iterator[str]:
    yield from _metric("info", "gauge", "The version.", [({"version": VERSION}, 1)])
    running = Counter(job.kind for job in desk.jobs.list(state="running"))
    yield from _metric(
        "jobs_running",
        "gauge",
        "Jobs under way.",
        [({"kind": k}, running[k]) for k in get_args(JobKind)],
    )
    listed = desk.library.stats()
    for name, help_text in (
        ("models", "Models in its list."),
        ("hits", "Times its list was at hand."),
        ("misses", "Times its list had to be asked for."),
        ("running", "Requests under way to it."),
        ("waiting", "Requests in the line before it."),
    ):
        kind = "counter" if name in ("hits", "misses") else "gauge"
        full = f"provider_list_{name}_total" if kind == "counter" else f"provider_{name}"
        samples = [({"provider": p}, float(getattr(s, name))) for p, s in listed.items()]
        yield from _metric(full, kind, help_text, samples)
    up = [({"provider": p}, float(s.error is None)) for p, s in listed.items()]
    yield from _metric("provider_up", "gauge", "Whether its last list could be had.", up)
    states = [({"provider": p, "state": s.breaker}, 1.0) for p, s in listed.items()]
    yield from _metric("provider_breaker", "gauge", "Whether requests pass to it.", states)
    names = desk.library.name_stats()
    for name in ("hits", "misses", "evictions"):
        yield from _metric(
            f"names_{name}_total",
            "counter",
            f"{name.capitalize()} of the cache of model names.",
            [({}, float(getattr(names, name)))],
        )


def _machine(sample: HardwareSnapshot) -> Iterator[str]:
    yield from _metric("cpu_percent", "gauge", "Of all cores.", [({}, sample.cpu_percent)])
    yield from _metric(
        "memory_used_bytes", "gauge", "RAM in use.", [({}, float(sample.memory_used))]
    )
    yield from _metric("memory_bytes", "gauge", "RAM there is.", [({}, float(sample.memory_total))])
    for name, field, help_text in (
        ("gpu_utilization_percent", "utilization_percent", "Share of the time it worked."),
        ("gpu_memory_used_bytes", "memory_used", "Its memory in use."),
        ("gpu_memory_bytes", "memory_total", "Its memory."),
        ("gpu_temperature_celsius", "temperature_celsius", "Its temperature."),
        ("gpu_power_watts", "power_watts", "What it draws."),
    ):
        readings = [
            ({"gpu": str(gpu.index), "name": gpu.name}, float(value))
            for gpu in sample.gpus
            if (value := getattr(gpu, field)) is not None
        ]
        yield from _metric(name, "gauge", help_text, readings)


def _metric(name: str, kind: str, help_text: str, samples: Iterable[Sample]) -> Iterator[str]:
    samples = list(samples)
    if not samples:
        return
    yield f"# HELP lmdesk_{name} {help_text}"
    yield f"# TYPE lmdesk_{name} {kind}"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        shown = int(value) if float(value).is_integer() else value
        yield f"lmdesk_{name}{{{inside}}} {shown}" if inside else f"lmdesk_{name} {shown}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
