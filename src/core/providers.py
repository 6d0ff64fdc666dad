"""ProviderConfig: what is known of a provider before anybody has asked it."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from core.models import ProviderKind
from core.value import Value

# Kinds that are somebody else's computer, whatever the address.
REMOTE_KINDS = frozenset({"huggingface"})
# How home networks and containers name their machines.
LOCAL_SUFFIXES = (".local", ".lan", ".internal", ".home", ".localhost", ".home.arpa")


class ProviderConfig(Value):
    """Where a provider is and how patient we are with it."""

    name: str
    """Unique; no colon in it."""
    kind: ProviderKind
    base_url: str
    token: SecretStr | None = None
    timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    """For control calls, such as its list of models."""
    retry_attempts: int = Field(default=2, ge=0, le=10)
    """How often what is safe to repeat is tried again."""
    parallel: int | None = Field(default=None, ge=1, le=1000)
    """Requests at the same time; further ones wait their turn. None: as many as come."""
    remote: bool = False
    """Somebody else's computer: what is sent there leaves the person's own machines."""


def is_remote(kind: ProviderKind, base_url: str) -> bool:
    """Whether what is sent there leaves the person's own machines and network."""
    if kind in REMOTE_KINDS:
        return True
    host = urlsplit(base_url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return not (host == "localhost" or "." not in host or host.endswith(LOCAL_SUFFIXES))
    return not (address.is_private or address.is_loopback or address.is_link_local)
