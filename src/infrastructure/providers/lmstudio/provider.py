"""LM Studio, or the engine that speaks like it, as the core knows providers."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

from pydantic import SecretStr

from core.chat import ChatRequest, ChatStream
from core.diagnosis import Diagnosis, from_health
from core.embedding import Embeddings
from core.errors import DeskError
from core.hub import Transfer
from core.models import (
    LoadEvent,
    LoadOptions,
    MemoryEstimate,
    ModelInfo,
    Processing,
    ProviderHealth,
    ProviderKind,
)
from core.ports import RawAnswer
from infrastructure.http import Reply, clean_base_url, usable_token
from infrastructure.providers.health import HEALTH_SECONDS, Place, check_health
from infrastructure.providers.lmstudio import calls
from infrastructure.providers.lmstudio.catalog import Catalog
from infrastructure.providers.lmstudio.downloads import download
from infrastructure.providers.lmstudio.finding import look
from infrastructure.providers.lmstudio.finding_place import this_place
from infrastructure.providers.lmstudio.finding_words import conclude
from infrastructure.providers.lmstudio.listing import list_models
from infrastructure.providers.lmstudio.loading import Loading
from infrastructure.providers.lmstudio.server import Server
from infrastructure.providers.lmstudio.socket import CallRefused
from infrastructure.providers.lmstudio.sockets import MethodMissing, Sockets
from infrastructure.providers.lmstudio.wording import wording
from infrastructure.providers.openai.chat import stream_chat
from infrastructure.providers.openai.embedding import embed
from infrastructure.providers.problems import problem, reply_problem
from infrastructure.providers.server import CONTROL_SECONDS


class LMStudioProvider:
    """A Provider that also loads, estimates, counts and knows what is busy.

    Everything works over HTTP alone; what LM Studio's WebSockets know better is asked there while
    the server answers. Raises BadParameter for an unusable address or token.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        token: SecretStr | None = None,
        kind: ProviderKind = "lmstudio",
        seconds: float = CONTROL_SECONDS,
    ) -> None:
        """`seconds` is how long a control call may take, such as that for the list of models."""
        self._name = name
        self._kind = kind
        self._server = Server(
            clean_base_url(base_url),
            token=usable_token(token),
            wording=wording(kind, name),
            seconds=seconds,
            ours=kind == "embedded",
        )
        self._sockets = Sockets(self._server)
        self._catalog = Catalog(self._server, self._sockets, name)
        self._loading = Loading(self._server, self._sockets, self._catalog)

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> ProviderKind:
        return self._kind

    @property
    def base_url(self) -> str:
        """The server's root, without an API path."""
        return self._server.base_url

    async def health(self) -> ProviderHealth:
        server = self._server
        seconds = min(HEALTH_SECONDS, server.seconds)
        place = Place(self._name, self._kind, server.base_url, server.wording, seconds)
        return await check_health(place, self._list, flavour=lambda: server.flavour)

    async def diagnose(self) -> Diagnosis:
        if self._kind == "embedded":  # ours: nobody has to find it
            return from_health(await self.health())
        return conclude(await look(self._server, self._name, this_place()), self._name, self._kind)

    async def list_models(self) -> list[ModelInfo]:
        return await self._catalog.models()

    def stream_chat(self, request: ChatRequest) -> ChatStream:
        # llama.cpp's own word; whether LM Studio would put up with it is not known.
        extras = {"return_progress": True} if self._kind == "embedded" else None
        return stream_chat(self._server, request, self._server.wording, extras=extras)

    async def forward(self, path: str, body: bytes) -> RawAnswer:
        return await self._server.forward(path, body)

    async def embed(self, model_id: str, texts: Sequence[str]) -> Embeddings:
        return await embed(self._server, model_id, texts, refuse=self._refusal)

    async def _list(self) -> list[ModelInfo]:
        return await list_models(self._server, self._name)

    def _refusal(self, reply: Reply) -> DeskError:
        return reply_problem(reply, self._server.wording)

    def load_model(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        """Where a model is loaded already it is reported at once, and no second copy is made.

        Real progress, all options and a real cancel over WebSocket; without one real progress for
        language models on 0.4, an estimate otherwise, and a BadParameter for options HTTP has not.
        """
        return self._loading.load(model_id, options)

    async def unload_instance(self, instance_id: str) -> None:
        await self._loading.unload(instance_id)

    def download_model(
        self, model: str, *, quantization: str | None = None
    ) -> AsyncGenerator[Transfer]:
        """LM Studio has no way to stop one: closing the generator only ends the watching."""
        return download(self._server, model, quantization)

    async def estimate_memory(self, model_id: str, options: LoadOptions) -> MemoryEstimate | None:
        model = await self._catalog.find(model_id)
        try:
            return await calls.estimate(self._sockets, model.kind, model_id, options)
        except MethodMissing:
            return None
        except CallRefused as error:
            raise problem(error.error, self._server.wording) from error

    async def processing(self, instance_id: str) -> Processing | None:
        with suppress(MethodMissing, CallRefused, DeskError):
            kind = await self._catalog.kind_of(instance_id)
            if kind is not None:
                return await calls.processing(self._sockets, kind, instance_id)
        return None

    async def count_tokens(self, instance_id: str, text: str) -> int | None:
        with suppress(MethodMissing, CallRefused, DeskError):
            kind = await self._catalog.kind_of(instance_id)
            if kind is not None:
                return await calls.count_tokens(self._sockets, kind, instance_id, text)
        return None

    async def aclose(self) -> None:
        await self._sockets.aclose()
        await self._server.aclose()
