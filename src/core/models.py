"""Models, their instances and their providers, as every room speaks of them."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, computed_field

from core.value import Value

ModelKind = Literal["llm", "embedding"]
KvCacheType = Literal["f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
ProcessingStatus = Literal["idle", "reading", "generating", "embedding"]
ModelState = Literal["not-loaded", "loading", "loaded", "unloading"]
ProviderKind = Literal["lmstudio", "embedded", "ollama", "huggingface", "openai", "llamacpp"]
ProviderState = Literal[
    "ready",  # answers and serves models
    "no_models",  # answers, and has nothing to serve
    "starting",  # our own engine is coming up
    "off",  # our own engine rests, because another provider answers
    "needs_token",  # answers 401
    "wrong_server",  # something answers that is not what was configured
    "unreachable",  # nothing answers
    "error",  # answers, with errors
]


class Instance(Value):
    """One loaded copy of a model."""

    id: str
    """What the provider calls it: the model's key, `key:2`, or a custom identifier."""
    context_length: int | None = None
    """Tokens it really has, as re-read from the provider."""
    pid: int | None = None
    """The process of this machine that serves it alone, where its provider says so."""


class Capabilities(Value):
    """What a model can do. None is "not known"."""

    vision: bool | None = None
    tools: bool | None = None
    reasoning: bool | None = None


class ModelInfo(Value):
    """One model of one provider. None is "not known"."""

    # Its own JSON carries the two computed fields, which a reader gets for nothing anyway.
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    """The provider's own id."""
    provider: str
    """The configured name of the provider."""
    name: str
    """What people call it."""
    kind: ModelKind = "llm"
    state: ModelState = "not-loaded"
    instances: tuple[Instance, ...] = ()
    size_bytes: int | None = None
    quantization: str | None = None
    parameters: str | None = None
    """Size of the network as text, such as `7B`."""
    architecture: str | None = None
    context_length: int | None = None
    """Tokens it can have at most."""
    format: str | None = None
    publisher: str | None = None
    description: str | None = None
    capabilities: Capabilities = Capabilities()
    max_tokens: int | None = None
    """Tokens an answer can have at most, where the provider says so."""
    loadable: bool = True
    """False where the provider has no loading, such as a remote API."""
    stale_since: float | None = None
    """Unix seconds of the list it is from, when its provider cannot be asked now; else None."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Further facts of the provider's, for showing."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def full_name(self) -> str:
        """`provider:id`, unique over all providers."""
        return f"{self.provider}:{self.id}"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def loaded(self) -> bool:
        """Whether at least one instance is in memory."""
        return bool(self.instances)


class LoadOptions(Value):
    """How to load. None leaves it to the provider."""

    context_length: int | None = Field(default=None, ge=128, le=10_000_000)
    ttl_seconds: int | None = Field(default=None, ge=1)
    gpu_offload: float | None = Field(default=None, ge=0, le=1)
    """Share of the layers on the GPU."""
    flash_attention: bool | None = None
    kv_cache_type: KvCacheType | None = None
    eval_batch_size: int | None = Field(default=None, ge=1, le=65_536)
    parallel: int | None = Field(default=None, ge=1, le=64)
    """Answers at the same time."""


class LoadProgress(Value):
    """A load is under way."""

    kind: Literal["progress"] = "progress"
    fraction: float = Field(ge=0, le=1)
    exact: bool
    """True: the server's own figure. False: our estimate."""
    stage: str | None = None
    """Such as `starting`, `reading weights`, `warming up`; None when the server does not say."""


class Loaded(Value):
    """The load is over and a re-read shows it. Always the last event."""

    kind: Literal["loaded"] = "loaded"
    instance: Instance
    seconds: float


LoadEvent = Annotated[LoadProgress | Loaded, Field(discriminator="kind")]


class ProviderHealth(Value):
    """What we found at a provider's address, and what to do about it."""

    provider: str
    kind: ProviderKind
    state: ProviderState
    url: str
    message: str
    hint: str = ""
    latency_ms: float | None = None
    flavour: str | None = None
    """Which family of API answered, such as `api/v1`, `api/v0`, `v1`."""
    checked_at: float = 0.0
    """Unix seconds."""


class MemoryEstimate(Value):
    """What a model would need, before it is loaded. Bytes."""

    model_bytes: int | None = None
    context_bytes: int | None = None
    vram_bytes: int | None = None
    """The part of `total_bytes` that goes to GPUs."""
    total_bytes: int
    confident: bool
    fits: bool | None = None
    """Whether the provider itself would load it; None is "it does not say"."""


class Processing(Value):
    """What an instance is doing."""

    status: ProcessingStatus
    queued: int = 0
    """Requests that wait for it."""


class LoadRecord(Value):
    """A load that went well on this machine."""

    model_id: str
    """Full name."""
    context_length: int | None
    seconds: float
    gpu_bytes: tuple[int, ...] = ()
    """By how much each GPU's memory in use grew; empty when not measured, or not on GPUs."""
    ram_bytes: int | None = None
    """The same for RAM, for a model that is not on GPUs."""
    at: float
    """Unix seconds."""

    @property
    def measured(self) -> bool:
        return bool(self.gpu_bytes) or self.ram_bytes is not None

    @property
    def total_bytes(self) -> int:
        """What it took, in GPUs or in RAM; 0 when not measured."""
        return sum(self.gpu_bytes) or self.ram_bytes or 0
