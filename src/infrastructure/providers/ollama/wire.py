"""What Ollama's own API answers; what we do not need is ignored."""

from typing import Any

from pydantic import BaseModel

from infrastructure.providers.shapes import Nice


class WireDetails(BaseModel):
    """What the file is."""

    format: Nice[str] = None
    family: Nice[str] = None
    parameter_size: Nice[str] = None
    quantization_level: Nice[str] = None


class WireTag(BaseModel):
    """One entry of GET /api/tags."""

    name: str
    digest: Nice[str] = None
    size: Nice[int] = None
    modified_at: Nice[str] = None
    details: Nice[WireDetails] = None
    remote_host: Nice[str] = None
    """Where one of Ollama's cloud models really runs."""


class WireTags(BaseModel):
    """GET /api/tags."""

    models: list[WireTag]


class WireRunning(BaseModel):
    """One entry of GET /api/ps."""

    name: str
    digest: Nice[str] = None
    size: Nice[int] = None
    size_vram: Nice[int] = None
    context_length: Nice[int] = None
    expires_at: Nice[str] = None


class WireRunnings(BaseModel):
    """GET /api/ps."""

    models: list[WireRunning]


class WireShown(BaseModel):
    """POST /api/show."""

    capabilities: Nice[list[str]] = None
    details: Nice[WireDetails] = None
    model_info: Nice[dict[str, Any]] = None

    @property
    def architecture(self) -> str | None:
        found = (self.model_info or {}).get("general.architecture")
        return found if isinstance(found, str) else None

    def number(self, what: str) -> int | None:
        """A figure of the network, such as `context_length` or `block_count`."""
        found = (self.model_info or {}).get(f"{self.architecture}.{what}")
        return found if isinstance(found, int) else None


class WirePull(BaseModel):
    """One line of POST /api/pull."""

    status: Nice[str] = None
    digest: Nice[str] = None
    total: Nice[int] = None
    completed: Nice[int] = None
    error: Nice[str] = None


class WireMessage(BaseModel):
    """A piece of an answer."""

    content: Nice[str] = None
    thinking: Nice[str] = None
    tool_calls: Nice[list[Any]] = None
