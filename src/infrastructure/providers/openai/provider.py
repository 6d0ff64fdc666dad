"""Any server that speaks OpenAI's API: vLLM, SGLang, LocalAI, OpenAI itself and many more."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.chat import ChatRequest, ChatStream
from core.embedding import Embeddings
from core.errors import DeskError
from core.models import ModelInfo, ProviderHealth, ProviderKind
from core.ports import RawAnswer
from core.providers import ProviderConfig
from infrastructure.http import Reply
from infrastructure.providers.health import HEALTH_SECONDS, Place, check_health
from infrastructure.providers.openai.chat import stream_chat
from infrastructure.providers.openai.embedding import embed
from infrastructure.providers.openai.listing import list_entries, models
from infrastructure.providers.openai.server import OpenAIServer
from infrastructure.providers.problems import reply_problem
from infrastructure.providers.wording import Wording, named

# A server on the other side of the world has a handshake to make first.
REMOTE_HEALTH_SECONDS = 3.5
WORDS = Wording(
    who="The OpenAI-compatible server",
    it="the OpenAI-compatible server",
    start="Start it, or correct its address in LM Desk's settings.",
    get_model="Give it a model to serve.",
)


class SpeaksOpenAI:
    """A Provider and Forwarder over OpenAI's wire; the rest is for the kinds to add.

    Raises BadParameter for an unusable address or token.
    """

    def __init__(
        self, config: ProviderConfig, words: Wording, *, extras: Mapping[str, Any] | None = None
    ) -> None:
        """`extras` go into every chat request beside what was asked."""
        self._config = config
        self._words = words
        self._extras = extras
        self._server = OpenAIServer(config, words)

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def kind(self) -> ProviderKind:
        return self._config.kind

    @property
    def base_url(self) -> str:
        """The server's root, without an API path."""
        return self._server.base_url

    async def health(self) -> ProviderHealth:
        return await check_health(self._place(), self._look)

    async def list_models(self) -> list[ModelInfo]:
        return models(await list_entries(self._server, self._words), self.name)

    def stream_chat(self, request: ChatRequest) -> ChatStream:
        return stream_chat(self._server, request, self._words, extras=self._extras)

    async def forward(self, path: str, body: bytes) -> RawAnswer:
        return await self._server.forward(path, body)

    async def aclose(self) -> None:
        await self._server.aclose()

    def _place(self) -> Place:
        patience = REMOTE_HEALTH_SECONDS if self._config.remote else HEALTH_SECONDS
        seconds = min(patience, self._config.timeout_seconds)
        return Place(self.name, self.kind, self.base_url, self._words, seconds)

    async def _look(self) -> Sequence[ModelInfo]:
        """What health is told by."""
        return await self.list_models()

    def _refusal(self, reply: Reply) -> DeskError:
        return reply_problem(reply, self._words)


class OpenAIProvider(SpeaksOpenAI):
    """A server of models that are there already: it cannot be told to load any."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config, named(WORDS, config.name, usual="openai"))

    async def embed(self, model_id: str, texts: Sequence[str]) -> Embeddings:
        return await embed(self._server, model_id, texts, refuse=self._refusal)
