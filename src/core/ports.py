"""What the core needs of the outside world. Adapters and fakes fit by shape."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from core.chat import ChatRequest, ChatStream, Parameters
from core.chats import Chat, ChatPage, Conversation, Message, MessageStatus
from core.embedding import Embeddings, Vector
from core.hardware import HardwareSnapshot
from core.hub import Choice, HubModel, HubRepository, Transfer
from core.leftovers import Leftover
from core.models import (
    LoadEvent,
    LoadOptions,
    LoadRecord,
    MemoryEstimate,
    ModelInfo,
    Processing,
    ProviderHealth,
    ProviderKind,
)
from core.speeds import SpeedRecord


class Provider(Protocol):
    """A place that serves models."""

    @property
    def name(self) -> str:
        """The configured name; no colon in it."""
        ...

    @property
    def kind(self) -> ProviderKind: ...

    async def health(self) -> ProviderHealth:
        """What is at the address, found out now. Never raises for a server that misbehaves."""
        ...

    async def list_models(self) -> list[ModelInfo]:
        """Raises ProviderError."""
        ...

    def stream_chat(self, request: ChatRequest) -> ChatStream:
        """Stream an answer; the last event is Answered. Raises DeskError at any point.

        Closing the generator closes the connection, which stops the generation.
        """
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class ModelLoader(Protocol):
    """A provider that can also bring models into memory and let them go."""

    def load_model(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        """Load a new instance; the last event is Loaded, sent when a re-read shows it.

        Raises ModelNotFound, NotEnoughMemory, LoadFailed, LoadUnproven or another ProviderError.
        Closing the generator cancels the load where the server can do that.
        """
        ...

    async def unload_instance(self, instance_id: str) -> None:
        """Return when a re-read no longer shows it. Raises UnloadUnproven or another ProviderError."""
        ...


@runtime_checkable
class SparingLoader(Protocol):
    """A provider whose loads take only some of the LoadOptions; others take all."""

    @property
    def load_options(self) -> frozenset[str]:
        """Names of those it takes."""
        ...


@runtime_checkable
class MemoryEstimator(Protocol):
    """A provider that knows what a model needs before it is loaded."""

    async def estimate_memory(self, model_id: str, options: LoadOptions) -> MemoryEstimate | None:
        """None when the server cannot tell. Raises ModelNotFound or another ProviderError."""
        ...


@runtime_checkable
class BusyTeller(Protocol):
    """A provider that knows what its instances are doing."""

    async def processing(self, instance_id: str) -> Processing | None:
        """None when the server cannot tell, or the instance is gone."""
        ...


@runtime_checkable
class TokenCounter(Protocol):
    """A provider that counts as the model counts."""

    async def count_tokens(self, instance_id: str, text: str) -> int | None:
        """None when the server cannot tell."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """A provider that turns texts into vectors."""

    async def embed(self, model_id: str, texts: Sequence[str]) -> Embeddings:
        """One vector a text, in their order. Raises ModelNotFound or another ProviderError."""
        ...


class VectorCache(Protocol):
    """Vectors made before, bounded, kept over restarts. Raises StorageError when the disk fails."""

    async def vectors(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """Those that are kept, by key."""
        ...

    async def keep_vectors(self, entries: Mapping[bytes, Vector]) -> None:
        """Keep them; those not used for longest go when there are too many."""
        ...


class MessageIndex(Protocol):
    """What was said, as vectors. Raises StorageError when the disk fails.

    `space` names what vectors can be compared with each other.
    """

    async def unindexed(self, space: str, *, limit: int) -> list[tuple[str, str]]:
        """Ids and texts of finished messages without a vector, newest first."""
        ...

    async def keep_messages(self, space: str, vectors: Mapping[str, Vector | None]) -> None:
        """Keep a vector a message id; None for a text that has none."""
        ...

    async def make_ready(self, space: str) -> None:
        """Read what the next search needs."""
        ...

    async def similar_chats(
        self, space: str, vector: Vector, query: str, *, limit: int
    ) -> list[Chat]:
        """Chats that stand out, the most similar first, with `score` and `snippet`."""
        ...


class RawAnswer(Protocol):
    """A server's answer as it comes, byte by byte."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """As the server sent them; look-ups ignore case."""
        ...

    async def read(self) -> bytes:
        """What has arrived since; empty at the end. Raises ProviderError."""
        ...

    def close(self) -> None:
        """Close the connection at once, which stops the server's work; never waits."""
        ...


@runtime_checkable
class Forwarder(Protocol):
    """A provider that speaks OpenAI's API, so that a request can pass through as it is."""

    async def forward(self, path: str, body: bytes) -> RawAnswer:
        """POST these bytes, JSON, to `path`, such as `/v1/chat/completions`.

        Returns when the headers are there, whatever the status; the caller closes. Raises
        ProviderUnreachable, ProviderTimeout or another ProviderError.
        """
        ...


@runtime_checkable
class ModelDownloader(Protocol):
    """A provider that fetches models itself."""

    def download_model(
        self, model: str, *, quantization: str | None = None
    ) -> AsyncGenerator[Transfer]:
        """Download what its catalogue or this address of the hub names; ends when it is there.

        Raises NotDownloadable, DownloadFailed or another ProviderError. Closing the generator only
        ends the watching where the provider cannot be told to stop.
        """
        ...


@runtime_checkable
class LibraryDownloader(ModelDownloader, Protocol):
    """A provider with a library of its own, whose downloads end when nobody listens any more."""

    def library_name(self, model: str) -> str | None:
        """What this is called in its library; None for what only a hub has."""
        ...


class ModelHub(Protocol):
    """Where models can be looked up."""

    async def search(self, query: str, *, limit: int) -> list[HubModel]:
        """Repositories with GGUF files, the most downloaded first. Raises HubUnreachable, …"""
        ...

    async def repository(self, name: str) -> HubRepository:
        """Raises HubModelNotFound, HubNeedsToken, HubUnreachable or HubRejected."""
        ...


class ModelFolder(Protocol):
    """Where models of our own engine lie."""

    async def missing(self, repository: HubRepository, choice: Choice) -> int:
        """How many bytes of it are not here yet."""
        ...

    async def free(self) -> int:
        """Bytes that still fit on its disk."""
        ...

    def fetch(self, repository: HubRepository, choice: Choice) -> AsyncGenerator[Transfer]:
        """Bring what is missing; at the end all files are in their places, at once and checked.

        Closing the generator breaks off at once and keeps what arrived; the next call goes on
        behind it. Raises NotEnoughDisk, DownloadDamaged, HubUnreachable and other DeskErrors.
        """
        ...

    async def leftovers(self) -> list[Leftover]:
        """What broken-off downloads left, the newest first; nothing that is being brought."""
        ...

    async def remove_leftover(self, name: str) -> None:
        """Delete it. Raises LeftoverNotFound, LeftoverInUse or StorageError."""
        ...


class ChatStore(Protocol):
    """Where conversations live. All methods raise StorageError when the disk fails."""

    async def create_chat(
        self, *, title: str = "", agent_id: str | None = None, model_id: str | None = None
    ) -> Chat: ...
    async def chat(self, chat_id: str) -> Chat:
        """Raises ChatNotFound, also for a deleted chat."""
        ...

    async def list_chats(self, *, query: str = "", limit: int = 50, offset: int = 0) -> ChatPage:
        """Newest first; `query` matches words in titles and messages, the last one as a prefix."""
        ...

    async def update_chat(
        self,
        chat_id: str,
        *,
        title: str | None = None,
        agent_id: str | None = None,
        model_id: str | None = None,
        parameters: Parameters | None = None,
        head_id: str | None = None,
    ) -> Chat:
        """Change what is not None. `head_id` must be a message of the chat (MessageNotFound).

        A new title alone does not move the chat up the list.
        """
        ...

    async def delete_chat(self, chat_id: str) -> None:
        """Hide it; `restore_chat` brings it back until `purge_deleted`."""
        ...

    async def restore_chat(self, chat_id: str) -> Chat: ...
    async def purge_deleted(self, *, before: float) -> int:
        """Remove chats deleted before this Unix time for good; how many."""
        ...

    async def conversation(self, chat_id: str) -> Conversation:
        """The branch that ends in the chat's head, oldest first, with `siblings` filled in."""
        ...

    async def message(self, chat_id: str, message_id: str) -> Message:
        """Raises MessageNotFound."""
        ...

    async def branch(self, chat_id: str, message_id: str | None) -> list[Message]:
        """The messages from the root to this one, oldest first; empty for None."""
        ...

    async def tip(self, chat_id: str, message_id: str) -> str:
        """The newest leaf below this message (itself if it has no children)."""
        ...

    async def add_messages(
        self,
        messages: Sequence[Message],
        *,
        head_id: str,
        agent_id: str | None = None,
        model_id: str | None = None,
    ) -> None:
        """Insert all or none, make `head_id` the chat's head, and move the chat up the list.

        `agent_id` and `model_id` are the chat's from now on, unless None. A chat without a title
        gets one from its first user message.
        """
        ...

    async def write_text(self, message_id: str, *, content: str, reasoning: str) -> None:
        """Keep what an answer has so far."""
        ...

    async def finish_message(self, message: Message) -> None:
        """Write all fields of a message that was being written, and index it for search."""
        ...

    async def being_written(self) -> list[Message]:
        """Every message that is `writing`, without `siblings`."""
        ...

    async def mark_interrupted(self, *, reason: str) -> int:
        """Turn every message still `writing` into `interrupted`; how many. For the start."""
        ...

    async def count_by_status(self, status: MessageStatus) -> int: ...

    async def aclose(self) -> None: ...


class LoadHistory(Protocol):
    """What loads took, kept over restarts. Raises StorageError when the disk fails."""

    async def add_load(self, record: LoadRecord) -> None:
        """Keep it, and of its model and context only the last few."""
        ...

    async def loads(self, model_id: str) -> list[LoadRecord]:
        """Those of this full name, newest first."""
        ...

    async def newest_load(self) -> LoadRecord | None:
        """The last one of any model."""
        ...

    async def newest_loads(self, limit: int) -> list[LoadRecord]:
        """Those of all models, newest first."""
        ...


class SpeedHistory(Protocol):
    """How fast models were, kept over restarts. Raises StorageError when the disk fails."""

    async def add_speeds(self, records: Sequence[SpeedRecord]) -> None:
        """Keep them, and of each model and context only the last ones."""
        ...

    async def newest_speeds(self, limit: int) -> list[SpeedRecord]:
        """Those of all models, newest first."""
        ...


class LoadSettingsStore(Protocol):
    """How models are to be loaded, kept over restarts. Raises StorageError when the disk fails."""

    async def load_settings(self) -> dict[str, LoadOptions]:
        """Those of every model, by full name."""
        ...

    async def keep_load_settings(self, model_id: str, options: LoadOptions | None) -> None:
        """Replace those of this full name; None forgets them."""
        ...


class HardwareProbe(Protocol):
    """Reads the machine."""

    def sample(self) -> HardwareSnapshot:
        """May block for a while, so callers run it in a thread. Never raises."""
        ...

    def resident(self, pids: Sequence[int]) -> dict[int, int]:
        """Bytes of RAM of each of these processes that is still there. Never raises."""
        ...

    def close(self) -> None: ...
