"""Where we stand: on the machine itself or in a container, and whose machine an address means."""

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

Whose = Literal["ours", "around", "elsewhere"]
"""This machine (or container), the machine around our container, or another one."""

DEFAULT_PORT = 1234
# What people take when the usual one is taken.
USUAL_PORTS = (DEFAULT_PORT, 1235)
# LM Studio's program listens on one of these, on loopback, whether its server runs or not.
PROGRAM_PORTS = (41343, 52993, 16141, 39414, 22931)
AROUND = ("host.docker.internal", "gateway.docker.internal", "host.containers.internal")
_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_CGROUP = Path("/proc/1/cgroup")
_ROUTES = Path("/proc/net/route")


@dataclass(frozen=True, slots=True)
class Place:
    """Where LM Desk runs, as far as it matters for finding a server."""

    in_container: bool = False
    around: tuple[str, ...] = AROUND
    """What the machine around a container is called from inside."""
    usual_ports: tuple[int, ...] = USUAL_PORTS
    program_ports: tuple[int, ...] = PROGRAM_PORTS

    def whose(self, host: str) -> Whose:
        """Whose machine this host is."""
        if host in self.around:
            return "around"
        try:
            return "ours" if ip_address(host).is_loopback else "elsewhere"
        except ValueError:
            return "ours" if host == "localhost" else "elsewhere"


def this_place() -> Place:
    """Reads a few small files."""
    if not _in_container():
        return Place()
    gateway = _gateway()
    return Place(in_container=True, around=(*AROUND, gateway) if gateway else AROUND)


def _in_container() -> bool:
    if any(mark.exists() for mark in _MARKS):
        return True
    # Podman and systemd write the first name small.
    if os.environ.get("container") or os.environ.get("KUBERNETES_SERVICE_HOST"):  # noqa: SIM112
        return True
    return re.search(r"docker|kubepods|containerd|libpod", _text(_CGROUP)) is not None


def _gateway() -> str | None:
    """The address of the machine around us: where everything goes that is not in our own net."""
    for line in _text(_ROUTES).splitlines()[1:]:
        fields = line.split()
        if len(fields) > 2 and fields[1] == "00000000" and re.fullmatch("[0-9A-F]{8}", fields[2]):
            return ".".join(str(part) for part in reversed(bytes.fromhex(fields[2])))
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
