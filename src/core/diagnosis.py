"""What is the matter with the way to a provider, and the one thing that helps."""

import asyncio
import time
from typing import Literal, Protocol, runtime_checkable

from core.models import ProviderHealth, ProviderKind, ProviderState
from core.ports import Provider
from core.value import Value

# Somebody waits for this in front of a screen.
DIAGNOSIS_SECONDS = 6.0

DiagnosisState = Literal[
    "ok",  # it works
    "note",  # it will do, or will do soon
    "attention",  # a person has to do something
]
DiagnosisCode = Literal[
    "ready",
    "jit_off",  # ready; other programs cannot have models loaded by asking for them
    "no_models",
    "starting",  # our own engine is coming up
    "resting",  # our own engine, because another provider answers
    "not_running",  # nothing listens, on this machine
    "server_off",  # the program runs, its server does not
    "found_elsewhere",  # it answers at another address than the configured one
    "loopback_in_container",  # the address means the container we run in
    "loopback_only",  # refused by the machine around our container
    "remote_refused",  # refused by another machine
    "name_unknown",
    "no_route",
    "firewall",  # not even a refusal comes back
    "slow",  # takes connections, does not answer in time
    "wrong_server",
    "not_http",
    "needs_token",
    "wrong_token",
    "trouble",  # answers, with errors
]
_OF_HEALTH: dict[ProviderState, tuple[DiagnosisCode, DiagnosisState]] = {
    "ready": ("ready", "ok"),
    "off": ("resting", "ok"),
    "starting": ("starting", "note"),
    "no_models": ("no_models", "note"),
    "needs_token": ("needs_token", "attention"),
    "wrong_server": ("wrong_server", "attention"),
    "unreachable": ("not_running", "attention"),
    "error": ("trouble", "attention"),
}


class Diagnosis(Value):
    """What was found at a provider's address just now."""

    provider: str
    """The configured name."""
    kind: ProviderKind
    url: str
    """The configured address; empty for our own engine while it rests."""
    code: DiagnosisCode
    state: DiagnosisState
    message: str
    """One sentence."""
    evidence: str = ""
    """How we know; empty when the sentence says it."""
    hint: str = ""
    """The one thing to do; empty when there is nothing."""
    command: str = ""
    """What to copy for that: a shell command, or lines for the file the hint names."""
    looks_like: str = ""
    """What kind of server answers instead of the right one, such as `Ollama`."""
    latency_ms: float | None = None
    checked_at: float
    """Unix seconds."""


@runtime_checkable
class SelfDiagnosing(Protocol):
    """A provider that can look closer than `health` does."""

    async def diagnose(self) -> Diagnosis:
        """Found out now; never raises for what a server does or does not do."""
        ...


async def diagnosed(provider: Provider) -> Diagnosis:
    """How it is with this provider, within six seconds. No command is run for it."""
    try:
        async with asyncio.timeout(DIAGNOSIS_SECONDS):
            if isinstance(provider, SelfDiagnosing):
                return await provider.diagnose()
            return from_health(await provider.health())
    except TimeoutError:
        return Diagnosis(
            provider=provider.name,
            kind=provider.kind,
            url="",
            code="slow",
            state="attention",
            message=f"{provider.name} did not answer within {DIAGNOSIS_SECONDS:.0f} s.",
            hint="Wait a moment, or restart it.",
            checked_at=time.time(),
        )


def from_health(health: ProviderHealth) -> Diagnosis:
    """The same in a diagnosis's words, where nothing more is known."""
    code, state = _OF_HEALTH[health.state]
    return Diagnosis(
        provider=health.provider,
        kind=health.kind,
        url=health.url,
        code=code,
        state=state,
        message=health.message,
        hint=health.hint,
        latency_ms=health.latency_ms,
        checked_at=health.checked_at,
    )
