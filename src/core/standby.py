"""The embedded engine as a provider that sleeps while another one answers."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from core.chat import ChatRequest, ChatStream
from core.embedding import Embeddings
from core.errors import DeskError, ProviderProtocolError, ProviderUnreachable
from core.models import (
    LoadEvent,
    LoadOptions,
    MemoryEstimate,
    ModelInfo,
    Processing,
    ProviderHealth,
    ProviderKind,
    ProviderState,
)
from core.ports import (
    BusyTeller,
    Embedder,
    Forwarder,
    MemoryEstimator,
    ModelLoader,
    Provider,
    RawAnswer,
)


class LocalEngine(Protocol):
    """A server of models that we can start and end."""

    @property
    def running(self) -> bool: ...

    async def start(self) -> str:
        """Its base URL, once it answers. Raises DeskError with the reason if it cannot run."""
        ...

    async def stop(self) -> None: ...


class LoadingProvider(Provider, ModelLoader, Protocol):
    """A provider that can load."""


class StandbyProvider:
    """Serves the models of our own engine while it is awake, and none while it rests."""

    kind: ProviderKind = "embedded"

    def __init__(
        self, name: str, engine: LocalEngine, connect: Callable[[str], LoadingProvider]
    ) -> None:
        self.name = name
        self._engine = engine
        self._connect = connect
        self._provider: LoadingProvider | None = None
        self._waking: asyncio.Task[None] | None = None
        self._error: DeskError | None = None

    @property
    def awake(self) -> bool:
        """Whether the engine runs or is coming up."""
        return self._engine.running or (self._waking is not None and not self._waking.done())

    def wake(self) -> None:
        """Start the engine in the background unless it is up, or coming up."""
        if self.awake:
            return
        self._waking = asyncio.create_task(self._wake(), name="embedded engine")

    async def rest(self) -> None:
        """End the engine."""
        if self._waking is not None and not self._waking.done():
            self._waking.cancel()
            await asyncio.gather(self._waking, return_exceptions=True)
        await self._disconnect()
        await self._engine.stop()

    async def health(self) -> ProviderHealth:
        if self._waking is not None and not self._waking.done():
            return self._state("starting", "The built-in engine is starting.")
        if self._error is not None:
            return self._state("error", self._error.message, hint=self._error.hint)
        if self._provider is None or not self._engine.running:
            return self._state("off", "The built-in engine rests.")
        return await self._provider.health()

    async def list_models(self) -> list[ModelInfo]:
        if self._waking is not None and not self._waking.done():
            await asyncio.shield(self._waking)
        if self._error is not None:
            raise self._error
        if self._provider is None or not self._engine.running:
            return []
        return await self._provider.list_models()

    async def stream_chat(self, request: ChatRequest) -> ChatStream:
        async with aclosing(self._awake_provider().stream_chat(request)) as events:
            async for event in events:
                yield event

    async def load_model(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        async with aclosing(self._awake_provider().load_model(model_id, options)) as events:
            async for event in events:
                yield event

    async def unload_instance(self, instance_id: str) -> None:
        await self._awake_provider().unload_instance(instance_id)

    async def processing(self, instance_id: str) -> Processing | None:
        provider: object = self._provider
        return await provider.processing(instance_id) if isinstance(provider, BusyTeller) else None

    async def estimate_memory(self, model_id: str, options: LoadOptions) -> MemoryEstimate | None:
        provider: object = self._provider
        if not isinstance(provider, MemoryEstimator):
            return None
        return await provider.estimate_memory(model_id, options)

    async def forward(self, path: str, body: bytes) -> RawAnswer:
        provider: object = self._awake_provider()
        if not isinstance(provider, Forwarder):
            raise ProviderProtocolError("The built-in engine does not speak OpenAI's API.")
        return await provider.forward(path, body)

    async def embed(self, model_id: str, texts: Sequence[str]) -> Embeddings:
        provider: object = self._awake_provider()
        if not isinstance(provider, Embedder):
            raise ProviderProtocolError("The built-in engine makes no vectors.")
        return await provider.embed(model_id, texts)

    async def aclose(self) -> None:
        await self.rest()

    async def _wake(self) -> None:
        await self._disconnect()
        try:
            url = await self._engine.start()
        except DeskError as error:
            self._error = error
            return
        self._error = None
        self._provider = self._connect(url)

    async def _disconnect(self) -> None:
        provider, self._provider = self._provider, None
        if provider is not None:
            await provider.aclose()

    def _awake_provider(self) -> LoadingProvider:
        if self._provider is None or not self._engine.running:
            raise ProviderUnreachable(
                "The built-in engine does not run.", hint="It starts again by itself. Try again."
            )
        return self._provider

    def _state(self, state: ProviderState, message: str, *, hint: str = "") -> ProviderHealth:
        return ProviderHealth(
            provider=self.name,
            kind=self.kind,
            state=state,
            url="",
            message=message,
            hint=hint,
            checked_at=time.time(),
        )
