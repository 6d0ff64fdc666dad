"""The models of one server as everybody here sees them: the HTTP list, and what only the WebSocket tells."""

from contextlib import suppress
from difflib import get_close_matches

from core.errors import DeskError, ModelNotFound
from core.models import Instance, ModelInfo, ModelKind
from infrastructure.providers.lmstudio import calls
from infrastructure.providers.lmstudio.listing import list_models
from infrastructure.providers.lmstudio.server import Server
from infrastructure.providers.lmstudio.socket import CallRefused
from infrastructure.providers.lmstudio.sockets import MethodMissing, Sockets

# A list is on somebody's screen: it does not wait for a server that is slow to say what it speaks.
PATIENCE_SECONDS = 0.3


class Catalog:
    """Lists, and remembers what does not change."""

    def __init__(self, server: Server, sockets: Sockets, provider: str) -> None:
        self._server = server
        self._sockets = sockets
        self._provider = provider
        self._on_disk: dict[str, calls.WireDownloaded] = {}
        self._asked_for: set[str] = set()
        self._kinds: dict[str, ModelKind] = {}

    async def models(self) -> list[ModelInfo]:
        """Every model. Raises ProviderError."""
        models = await list_models(self._server, self._provider)
        if self._server.flavour != "api/v1" and models:
            models = await self._completed(models)
        self._kinds = {i.id: model.kind for model in models for i in model.instances}
        return models

    async def find(self, model_id: str) -> ModelInfo:
        """The model of this id. Raises ModelNotFound with the closest names, or ProviderError."""
        models = await self.models()
        for model in models:
            if model.id == model_id:
                return model
        close = get_close_matches(model_id, [model.id for model in models], n=5, cutoff=0.4)
        raise ModelNotFound(
            f"{self._server.wording.who} has no model named {model_id!r}.",
            hint=f"Did you mean {close[0]}?" if close else "",
            candidates=[f"{self._provider}:{name}" for name in close],
        )

    async def kind_of(self, instance_id: str) -> ModelKind | None:
        """What kind of model an instance is of; None when it is not in the list."""
        if instance_id not in self._kinds:
            await self.models()
        return self._kinds.get(instance_id)

    async def _completed(self, models: list[ModelInfo]) -> list[ModelInfo]:
        """With sizes, which older lists lack, and with instances where the list is silent on them."""
        if not await self._sockets.there(patience=PATIENCE_SECONDS):
            return models
        with suppress(MethodMissing, CallRefused, DeskError):
            models = await self._with_sizes(models)
        if self._server.flavour == "v1":
            # Not suppressed: a failure must not look like an empty memory.
            with suppress(MethodMissing, CallRefused):
                models = await self._with_instances(models)
        return models

    async def _with_sizes(self, models: list[ModelInfo]) -> list[ModelInfo]:
        ids = {model.id for model in models}
        if not ids <= self._asked_for:
            self._on_disk = {m.modelKey: m for m in await calls.downloaded(self._sockets)}
            self._asked_for = ids
        return [
            model
            if (more := self._on_disk.get(model.id)) is None
            else model.model_copy(
                update={
                    "name": more.displayName or model.name,
                    "kind": "embedding" if more.type == "embedding" else model.kind,
                    "size_bytes": more.sizeBytes,
                    "parameters": more.paramsString,
                }
            )
            for model in models
        ]

    async def _with_instances(self, models: list[ModelInfo]) -> list[ModelInfo]:
        instances: dict[str, list[Instance]] = {}
        for entry in await calls.loaded(self._sockets):
            instance = Instance(id=entry.identifier, context_length=entry.contextLength)
            instances.setdefault(entry.modelKey, []).append(instance)
        return [
            model.model_copy(
                update={
                    "instances": tuple(instances.get(model.id, ())),
                    "state": "loaded" if model.id in instances else "not-loaded",
                    "loadable": True,
                }
            )
            for model in models
        ]
