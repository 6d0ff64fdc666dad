"""LM Studio, or the engine that speaks like it, as the core knows providers."""

from collections.abc import AsyncGenerator

from pydantic import SecretStr

from core.chat import ChatRequest, ChatStream
from core.models import LoadEvent, LoadOptions, ModelInfo, ProviderHealth, ProviderKind
from infrastructure.http import clean_base_url, usable_token
from infrastructure.providers.lmstudio.chat import stream_chat
from infrastructure.providers.lmstudio.health import check_health
from infrastructure.providers.lmstudio.listing import list_models
from infrastructure.providers.lmstudio.loading import Loading
from infrastructure.providers.lmstudio.server import Server
from infrastructure.providers.lmstudio.wording import wording


class LMStudioProvider:
    """A Provider and a ModelLoader over HTTP. Raises BadParameter for an unusable address or token."""

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        token: SecretStr | None = None,
        kind: ProviderKind = "lmstudio",
    ) -> None:
        self._name = name
        self._kind = kind
        self._server = Server(
            clean_base_url(base_url), token=usable_token(token), wording=wording(kind)
        )
        self._loading = Loading(self._server, name)

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
        return await check_health(self._server, self._name, self._kind)

    async def list_models(self) -> list[ModelInfo]:
        return await list_models(self._server, self._name)

    def stream_chat(self, request: ChatRequest) -> ChatStream:
        return stream_chat(self._server, request, self._kind)

    def load_model(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        """Where a model is loaded already it is reported at once, and no second copy is made.

        Real progress for language models on 0.4; estimated otherwise. Closing the generator closes
        the connection; whether LM Studio then gives up a load is not documented, so list again.
        """
        return self._loading.load(model_id, options)

    async def unload_instance(self, instance_id: str) -> None:
        await self._loading.unload(instance_id)

    async def aclose(self) -> None:
        await self._server.aclose()
