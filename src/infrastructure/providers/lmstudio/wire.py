"""What the servers' lists of models look like; what we do not need is ignored."""

from typing import Any

from pydantic import BaseModel

from infrastructure.providers.shapes import Nice


class WireConfig(BaseModel):
    """How an instance was loaded."""

    context_length: Nice[int] = None


class WireInstance(BaseModel):
    """One of `loaded_instances`."""

    id: str
    config: Nice[WireConfig] = None
    pid: Nice[int] = None
    """Only our own engine tells it."""


class WireQuantization(BaseModel):
    """`null` for some models."""

    name: Nice[str] = None


class WireCapabilities(BaseModel):
    """Absent for embedding models."""

    vision: Nice[bool] = None
    trained_for_tool_use: Nice[bool] = None
    reasoning: Nice[dict[str, Any]] = None


class WireModelV1(BaseModel):
    """One entry of GET /api/v1/models."""

    key: str
    type: str = "llm"
    display_name: Nice[str] = None
    publisher: Nice[str] = None
    architecture: Nice[str] = None
    quantization: Nice[WireQuantization] = None
    size_bytes: Nice[int] = None
    params_string: Nice[str] = None
    loaded_instances: list[WireInstance] = []
    max_context_length: Nice[int] = None
    format: Nice[str] = None
    description: Nice[str] = None
    capabilities: Nice[WireCapabilities] = None


class WireListV1(BaseModel):
    """GET /api/v1/models."""

    models: list[WireModelV1]


class WireModelV0(BaseModel):
    """One entry of GET /api/v0/models."""

    id: str
    state: str
    type: str = "llm"
    publisher: Nice[str] = None
    arch: Nice[str] = None
    compatibility_type: Nice[str] = None
    quantization: Nice[str] = None
    max_context_length: Nice[int] = None
    loaded_context_length: Nice[int] = None
    capabilities: Nice[list[str]] = None


class WireListV0(BaseModel):
    """GET /api/v0/models."""

    data: list[WireModelV0]


class WireModelOpenAI(BaseModel):
    """One entry of GET /v1/models."""

    id: str
    owned_by: Nice[str] = None


class WireListOpenAI(BaseModel):
    """GET /v1/models."""

    data: list[WireModelOpenAI]
