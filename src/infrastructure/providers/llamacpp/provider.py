"""llama.cpp's llama-server: one model, or a router that loads and unloads."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from core.embedding import Embeddings
from core.errors import DeskError, ModelNotFound
from core.models import (
    Capabilities,
    LoadEvent,
    LoadOptions,
    ModelInfo,
    Processing,
    ProviderHealth,
)
from core.providers import ProviderConfig
from infrastructure.providers.health import check_health
from infrastructure.providers.llamacpp.listing import (
    WireProps,
    failure,
    list_entries,
    read,
    routes,
)
from infrastructure.providers.llamacpp.loading import RouterLoading
from infrastructure.providers.openai.embedding import embed
from infrastructure.providers.openai.provider import SpeaksOpenAI
from infrastructure.providers.problems import needs_token
from infrastructure.providers.wording import Wording, named

LOOK_SECONDS = 1.0
_UNAUTHORISED = 401
WORDS = Wording(
    who="llama-server",
    it="llama-server",
    start="Start llama-server, or correct its address in LM Desk's settings.",
    get_model="Start it with a model (-m), or with a folder of models (--models-dir).",
    token="Put the key llama-server was started with (--api-key) into LM Desk's settings.",
)


class LlamaServerProvider(SpeaksOpenAI):
    """A Provider that also loads, counts and knows what is busy, where the server is a router.

    Which of both it is shows in its list, so it may change with a restart.
    """

    def __init__(self, config: ProviderConfig) -> None:
        words = named(WORDS, config.name, usual="llamacpp")
        super().__init__(config, words, extras={"return_progress": True})
        self._known: dict[str, Capabilities] = {}
        self._router: bool | None = None
        self._loading = RouterLoading(self._server, words, self._find, self._failure)

    async def health(self) -> ProviderHealth:
        return await check_health(self._place(), self._look, flavour=self._flavour)

    async def list_models(self) -> list[ModelInfo]:
        entries = await self._entries()
        models = read(entries, self.name, self._known)
        loaded = [model.id for model in models if model.loaded]
        self._known = {name: can for name, can in self._known.items() if name in loaded}
        if new := [name for name in loaded if name not in self._known]:
            for name in new:
                await self._learn(name)
            models = read(entries, self.name, self._known)
        return models

    async def embed(self, model_id: str, texts: Sequence[str]) -> Embeddings:
        return await embed(self._server, model_id, texts, refuse=self._refusal)

    @property
    def load_options(self) -> frozenset[str]:
        return frozenset()

    def load_model(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        """With the router's own progress. It takes no options: a BadParameter for any."""
        return self._loading.load(model_id, options)

    async def unload_instance(self, instance_id: str) -> None:
        await self._loading.unload(instance_id)

    async def processing(self, instance_id: str) -> Processing | None:
        with suppress(DeskError):
            reply = await self._server.get(self._of("/slots", instance_id), seconds=LOOK_SECONDS)
            if reply.ok and isinstance(reply.body, list):
                return _processing([slot for slot in reply.body if isinstance(slot, dict)])
        return None

    async def count_tokens(self, instance_id: str, text: str) -> int | None:
        with suppress(DeskError):
            body = {"model": instance_id, "content": text}
            reply = await self._server.post("/tokenize", body, seconds=self._server.seconds)
            tokens = reply.body.get("tokens") if isinstance(reply.body, dict) else None
            if reply.ok and isinstance(tokens, list):
                return len(tokens)
        return None

    async def aclose(self) -> None:
        await self._loading.aclose()
        await super().aclose()

    async def _look(self) -> Sequence[ModelInfo]:
        models = await self.list_models()
        # The list is public; whether the key is right shows elsewhere.
        reply = await self._server.get("/props")
        if reply.status == _UNAUTHORISED:
            raise needs_token(self._words)
        return models

    async def _entries(self) -> list[dict[str, Any]]:
        entries = await list_entries(self._server, self._words)
        self._router = routes(entries)
        return entries

    async def _find(self, model_id: str) -> ModelInfo:
        models = read(await self._entries(), self.name, self._known)
        for model in models:
            if model.id == model_id:
                return model
        close = get_close_matches(model_id, [model.id for model in models], n=5, cutoff=0.4)
        raise ModelNotFound(
            f"{self._words.who} has no model named {model_id!r}.",
            hint=f"Did you mean {close[0]}?" if close else "",
            candidates=[f"{self.name}:{name}" for name in close],
        )

    async def _failure(self, model_id: str) -> int | None:
        return failure(await self._entries(), model_id)

    async def _learn(self, model_id: str) -> None:
        with suppress(DeskError, ValidationError):
            reply = await self._server.get(self._of("/props", model_id), seconds=LOOK_SECONDS)
            if reply.ok:
                self._known[model_id] = WireProps.model_validate(reply.body).capabilities()

    def _of(self, path: str, model_id: str) -> str:
        return f"{path}?model={quote(model_id, safe='')}" if self._router else path

    def _flavour(self) -> str | None:
        return None if self._router is None else "router" if self._router else "one model"


def _processing(slots: Sequence[dict[str, Any]]) -> Processing:
    busy = [slot for slot in slots if slot.get("is_processing") is True]
    if not busy:
        return Processing(status="idle")
    return Processing(status="reading" if all(map(_reads, busy)) else "generating")


def _reads(slot: dict[str, Any]) -> bool:
    """Whether it is still at the prompt: nothing is written yet."""
    made = slot.get("next_token")
    first = made[0] if isinstance(made, list) and made else made
    return not (isinstance(first, dict) and first.get("n_decoded"))
