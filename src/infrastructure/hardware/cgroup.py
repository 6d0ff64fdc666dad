"""The memory a container may use, which the host's own figures do not show."""

from pathlib import Path
from typing import NamedTuple

# Inside a container these are its own; on a bare machine they do not exist.
CGROUP = Path("/sys/fs/cgroup")


class ContainerMemory(NamedTuple):
    """Bytes."""

    used: int
    total: int


def container_memory(root: Path = CGROUP) -> ContainerMemory | None:
    """What the container has and uses; None where there is no limit."""
    for folder, limit_file, used_file, cache_name in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = (folder / limit_file).read_text().strip()
            used = int((folder / used_file).read_text())
            cache = _named(folder / "memory.stat", cache_name)
        except (OSError, ValueError):
            continue
        if limit.isdigit():
            return ContainerMemory(used=max(0, used - cache), total=int(limit))
    return None


def _named(path: Path, name: str) -> int:
    """The number after this name; cached files are given back when memory is short."""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
