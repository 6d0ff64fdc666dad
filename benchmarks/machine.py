"""What a process costs, and what the machine was doing beside it."""

import os
import platform
import time
from pathlib import Path

import psutil


def header(what: str) -> str:
    """The line every report opens with: figures mean nothing without it."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{what} · {time.strftime('%Y-%m-%d %H:%M')} · {os.cpu_count()} cores · "
        f"Python {platform.python_version()} · load {load} · cpu pressure {_pressure()}"
    )


def _pressure() -> str:
    """How much of the last ten seconds somebody waited for a core; Linux alone tells."""
    told = Path("/proc/pressure/cpu")
    if not told.exists():
        return "unknown"
    return told.read_text().partition("avg10=")[2].partition(" ")[0] + " %"


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children, also those that ended."""
    total = 0.0
    for process in family(pid):
        used = process.cpu_times()
        total += used.user + used.system
    ended = psutil.Process(pid).cpu_times()
    return total + ended.children_user + ended.children_system


def memory_mb(pid: int) -> float:
    """Resident memory of one process, MB of a million bytes."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def peak_memory_mb(pid: int) -> float:
    """The most it ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this system does not tell a process's peak memory")


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def median(values: list[float]) -> float:
    return percentile(values, 0.5)
