"""How soon the real command answers and its page can be used, and what it costs while nobody asks.

    python -m benchmarks.startup [--rounds 3] [--idle 10]

Each round is a new process with a new data folder; `lmdesk` is the page and the API together.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser

from benchmarks import machine, processes
from benchmarks.browser import chromium, page_at, wait_for_composer

ALIVE_TARGET = 5.0
PAGE_TARGET = 2.5
MEMORY_TARGET = 220.0


class Start(NamedTuple):
    """Seconds, MB of a million bytes, and percent of one core."""

    alive: float
    """From the start of the process to the first answer of /livez."""
    ready: float
    """To the first of /readyz: the real page is behind it."""
    page: float
    """From then until the composer is visible in a new browser."""
    memory: float
    """After the idle time, no page open."""
    memory_page: float
    """The same with one page open."""
    cpu: float
    cpu_page: float
    import_cpu: float
    """CPU seconds until ready."""
    children: float
    """Memory of the processes it started, such as the engine."""


def start_once(
    browser: Browser, folder: Path, *, lmstudio: str, embedded: str, idle: float
) -> Start:
    """One process from birth to death."""
    with processes.desk(folder, lmstudio=lmstudio, embedded=embedded, ready=False) as desk:
        alive = processes.wait_for(f"{desk.url}/livez", desk.process) - desk.started
        ready = processes.wait_for(f"{desk.url}/readyz", desk.process) - desk.started
        import_cpu = machine.cpu_seconds(desk.pid)
        cpu = _idle_cpu(desk.pid, idle)
        memory = machine.memory_mb(desk.pid)
        asked = time.monotonic()
        with page_at(browser, desk.url) as page:
            wait_for_composer(page)
            shown = time.monotonic() - asked
            cpu_page = _idle_cpu(desk.pid, idle)
            memory_page = machine.memory_mb(desk.pid)
        children = sum(machine.memory_mb(p.pid) for p in machine.family(desk.pid)[1:])
    return Start(alive, ready, shown, memory, memory_page, cpu, cpu_page, import_cpu, children)


def _idle_cpu(pid: int, seconds: float) -> float:
    """Percent of one core over this time, after a breath to settle."""
    time.sleep(2)
    before, started = machine.cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (machine.cpu_seconds(pid) - before) / (time.monotonic() - started) * 100


def show(name: str, starts: list[Start]) -> None:
    def row(what: str, values: list[float], unit: str, target: float | None) -> None:
        least = min(values)
        goal = "" if target is None else f"target {target:g} {'ok' if least < target else 'MISSED'}"
        every = " ".join(f"{value:8.2f}" for value in values)
        print(f"  {what:38} {machine.median(values):8.2f} {unit:4} {goal:20} all: {every}")

    print(f"\n{name}: medians, and whether the best round meets the target")
    row("start to /livez", [s.alive for s in starts], "s", ALIVE_TARGET)
    row("start to /readyz", [s.ready for s in starts], "s", ALIVE_TARGET)
    row("opening the page to composer visible", [s.page for s in starts], "s", PAGE_TARGET)
    row("CPU until ready", [s.import_cpu for s in starts], "s", None)
    row("idle memory, no page", [s.memory for s in starts], "MB", MEMORY_TARGET)
    row("idle memory, one page", [s.memory_page for s in starts], "MB", MEMORY_TARGET)
    row("idle CPU, no page", [s.cpu for s in starts], "%", None)
    row("idle CPU, one page", [s.cpu_page for s in starts], "%", None)
    row("memory of its children", [s.children for s in starts], "MB", None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=10.0)
    given = parser.parse_args()
    print(machine.header("starting lmdesk"))
    with chromium() as browser, processes.upstream(models=20) as upstream:
        # The browser's own start is not the page's.
        with page_at(browser, "about:blank"):
            pass
        cases = (
            ("beside LM Studio, engine off", upstream.url, "off"),
            ("beside LM Studio, engine auto", upstream.url, "auto"),
            ("alone, engine auto", "http://127.0.0.1:9", "auto"),
        )
        for name, lmstudio, embedded in cases:
            starts = []
            for _ in range(given.rounds):
                with tempfile.TemporaryDirectory() as folder:
                    starts.append(
                        start_once(
                            browser,
                            Path(folder),
                            lmstudio=lmstudio,
                            embedded=embedded,
                            idle=given.idle,
                        )
                    )
            show(name, starts)
    print("\n" + machine.header("end"))


if __name__ == "__main__":
    main()
