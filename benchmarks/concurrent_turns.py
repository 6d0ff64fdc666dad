"""128 answers at once through a real `lmdesk api`: nothing lost, doubled or mixed up, and what it costs.

    python -m benchmarks.concurrent_turns [--streams 128] [--rate 50] [--tokens 500] [--rounds 3]

The scripted upstream, the desk, and the watchers are processes of their own. Each token carries its
number and the moment it was written. A bare relay does the same work beside it, as a yardstick.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import machine, processes

# CPU seconds per million tokens and peak MiB at 128 × 50/s, a C upstream and load generator
# (docs/performance.md says how they were taken). Only the ratios travel to other machines.
KNOWN = (
    ("nginx, pass-through", 20, 14),
    ("FastAPI + aiohttp, raw chunks", 41, 102),
    ("Open WebUI, proxy path", 182, 949),
    ("LiteLLM proxy", 681, 531),
)
RELAY_TO_NGINX = 2.05
"""What the yardstick costs, in nginxes: FastAPI + aiohttp over nginx in the table above."""


def through_desk(given: argparse.Namespace, *, merge_ms: int) -> dict[str, Any]:
    """One round of turns."""
    with (
        tempfile.TemporaryDirectory() as folder,
        processes.upstream(
            together=given.streams, tokens=given.tokens, rate=given.rate
        ) as upstream,
        processes.desk(Path(folder), "api", lmstudio=upstream.url) as desk,
    ):
        return _load("turns", given, desk, upstream, merge_ms=merge_ms)


def through_relay(given: argparse.Namespace) -> dict[str, Any]:
    """One round of bare completions."""
    with (
        processes.upstream(
            together=given.streams, tokens=given.tokens, rate=given.rate
        ) as upstream,
        processes.server("benchmarks.relay", upstream.url) as relay,
    ):
        return _load("completions", given, relay, upstream, merge_ms=0)


def _load(
    kind: str,
    given: argparse.Namespace,
    target: processes.Running,
    upstream: processes.Running,
    *,
    merge_ms: int,
) -> dict[str, Any]:
    options = {
        "url": target.url,
        "upstream": upstream.url,
        "pid": target.pid,
        "streams": given.streams,
        "tokens": given.tokens,
        "merge-ms": merge_ms,
    }
    parts = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    seconds = 120 + given.tokens / given.rate
    report: dict[str, Any] = processes.ask("benchmarks.watchers", kind, *parts, seconds=seconds)
    if report["wrong"] or report.get("kept_wrong") or report["tokens"] != report["expected"]:
        raise SystemExit(f"WRONG: {report}")
    return report


def per_million(report: dict[str, Any]) -> float:
    """CPU seconds of the serving process per million tokens, while streaming."""
    return float(report["stream_cpu"]) / float(report["tokens"]) * 1e6


def show(name: str, reports: list[dict[str, Any]], relay: float) -> None:
    """The least CPU of the rounds, the median of the rest."""
    cpu = min(per_million(report) for report in reports)

    def middle(key: str) -> float:
        return machine.median([float(report[key]) for report in reports])

    print(
        f"{name:34} {cpu:7.0f} {cpu / relay:8.2f} {cpu / relay * RELAY_TO_NGINX:8.1f}"
        f" {middle('delay_p50_ms'):9.2f} {middle('delay_p99_ms'):9.2f} {middle('peak_mb'):8.0f}"
        f" {middle('events_per_token'):9.2f}"
        f" {middle('start_seconds') * 1000:9.0f} {middle('start_p99_ms'):9.0f}"
        f" {middle('start_cpu') * 1000:9.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--streams", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    tokens = given.streams * given.tokens
    print(machine.header(f"{given.streams} turns × {given.rate:g} tokens/s, {tokens:,} tokens"))

    relay, desk, merged = [], [], []
    for _ in range(given.rounds):
        relay.append(through_relay(given))
        desk.append(through_desk(given, merge_ms=0))
        merged.append(through_desk(given, merge_ms=50))
    yardstick = min(per_million(report) for report in relay)
    print(f"every token there once and in order, watched and kept, in all {given.rounds} rounds\n")
    print(
        f"{'':34} {'CPU s/M':>7} {'× relay':>8} {'× nginx':>8} {'p50 ms':>9} {'p99 ms':>9}"
        f" {'peak MB':>8} {'events/t':>9} {'start ms':>9} {'slowest':>9} {'start CPU':>9}"
    )
    show("lmdesk api, each token", desk, yardstick)
    show("lmdesk api, merged for 50 ms", merged, yardstick)
    show("yardstick: FastAPI + aiohttp relay", relay, yardstick)
    print("\nmeasured before, elsewhere (compare the column × nginx only):")
    for name, cpu, peak in KNOWN:
        print(f"{name:34} {cpu:7.0f} {'':8} {cpu / 20:8.1f} {'':9} {'':9} {peak:8.0f}")
    print("\n" + machine.header("end"))


if __name__ == "__main__":
    main()
