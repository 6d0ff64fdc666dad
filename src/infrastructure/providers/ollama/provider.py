"""Ollama over its own API, as the core knows providers."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from core.chat import ChatRequest, ChatStream
from core.embedding import Embeddings
from core.errors import ProviderProtocolError
from core.hub import Transfer
from core.models import LoadEvent, LoadOptions, ModelInfo, ProviderHealth, ProviderKind
from core.ports import RawAnswer
from core.providers import ProviderConfig
from infrastructure.http import clean_base_url, usable_token
from infrastructure.providers.health import HEALTH_SECONDS, Place, check_health
from infrastructure.providers.ollama.catalog import Catalog
from infrastructure.providers.ollama.chat import stream_chat
from infrastructure.providers.ollama.loading import TAKEN, Loading
from infrastructure.providers.ollama.pull import library_name, pull
from infrastructure.providers.openai.embedding import EMBEDDING_SECONDS
from infrastructure.providers.problems import reply_problem
from infrastructure.providers.server import HttpServer
from infrastructure.providers.wording import Wording, named

WORDS = Wording(
    who="Ollama",
    it="Ollama",
    start="Start Ollama, or run 'ollama serve'.",
    get_model="Get a model with 'ollama pull', or under Get models.",
    token="Put the token that the way to Ollama asks for into LM Desk's settings.",
)


class OllamaProvider:
    """A Provider that also loads, downloads, makes vectors and passes requests through.

    Raises BadParameter for an unusable address or token.
    """

    def __init__(self, config: ProviderConfig) -> None:
        self._config = config
        self._words = named(WORDS, config.name, usual="ollama")
        self._server = HttpServer(
            clean_base_url(config.base_url),
            token=usable_token(config.token),
            who=self._words.who,
            start_hint=self._words.start,
            seconds=config.timeout_seconds,
        )
        self._catalog = Catalog(self._server, self._words, config.name)
        self._loading = Loading(self._server, self._words, self._catalog)

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
        seconds = min(HEALTH_SECONDS, self._config.timeout_seconds)
        place = Place(self.name, self.kind, self.base_url, self._words, seconds)
        return await check_health(place, self.list_models)

    async def list_models(self) -> list[ModelInfo]:
        return await self._catalog.models()

    def stream_chat(self, request: ChatRequest) -> ChatStream:
        kept = self._loading.kept(request.instance_id or request.model_id)
        return stream_chat(self._server, request, self._words, kept=kept)

    async def forward(self, path: str, body: bytes) -> RawAnswer:
        """Ollama's OpenAI API takes no context length: it may load the model anew with its own."""
        return await self._server.forward(path, body)

    async def embed(self, model_id: str, texts: Sequence[str]) -> Embeddings:
        kept = self._loading.kept(model_id)
        body: dict[str, Any] = {**kept, "model": model_id, "input": list(texts)}
        reply = await self._server.post("/api/embed", body, seconds=EMBEDDING_SECONDS)
        if not reply.ok or not isinstance(reply.body, dict):
            raise reply_problem(reply, self._words)
        try:
            vectors = tuple(tuple(map(float, each)) for each in reply.body["embeddings"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderProtocolError(
                f"{self._words.who} sent vectors that cannot be read."
            ) from error
        if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) > 1:
            raise ProviderProtocolError(
                f"{self._words.who} sent {len(vectors)} vectors for {len(texts)} texts."
            )
        model, tokens = reply.body.get("model"), reply.body.get("prompt_eval_count")
        return Embeddings(
            vectors,
            model if isinstance(model, str) else None,
            tokens if isinstance(tokens, int) else None,
        )

    @property
    def load_options(self) -> frozenset[str]:
        return TAKEN

    def load_model(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        """Progress is an estimate: Ollama tells none. Another context loads the model anew."""
        return self._loading.load(model_id, options)

    async def unload_instance(self, instance_id: str) -> None:
        await self._loading.unload(instance_id)

    def download_model(
        self, model: str, *, quantization: str | None = None
    ) -> AsyncGenerator[Transfer]:
        """A name of Ollama's library or an address of the hub. Closing the generator stops it."""
        return pull(self._server, self._words, self._catalog, model, quantization)

    def library_name(self, model: str) -> str | None:
        """A name as `ollama pull` takes it, such as `llama3.2:3b`."""
        return library_name(model)

    async def aclose(self) -> None:
        await self._server.aclose()
