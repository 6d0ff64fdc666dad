"""Models brought into Ollama's memory and taken out of it, where only /api/ps counts as done."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from core.errors import (
    BadParameter,
    DeskError,
    LoadFailed,
    LoadUnproven,
    ModelNotFound,
    NotLoadable,
    ProviderError,
    UnloadUnproven,
)
from core.models import Instance, Loaded, LoadEvent, LoadOptions, ModelInfo
from infrastructure.http import Reply
from infrastructure.providers.estimate import LoadEstimates, estimated
from infrastructure.providers.ollama.catalog import Catalog
from infrastructure.providers.problems import reply_problem
from infrastructure.providers.server import HttpServer
from infrastructure.providers.wording import Wording

SHOW_SECONDS = 3.0
LEAVE_SECONDS = 10.0
LOOK_SECONDS = 0.1
# What only the server's own environment decides.
_SPECIAL = ("flash_attention", "kv_cache_type", "parallel")
TAKEN = frozenset(LoadOptions.model_fields) - frozenset(_SPECIAL)


class Loading:
    """Loads and unloads on one Ollama."""

    def __init__(self, server: HttpServer, words: Wording, catalog: Catalog) -> None:
        self._server = server
        self._words = words
        self._catalog = catalog
        self._estimates = LoadEstimates()
        self._locks: dict[str, asyncio.Lock] = {}
        self._kept: dict[str, dict[str, Any]] = {}

    def kept(self, model_id: str) -> dict[str, Any]:
        """What a request must repeat so that the model stays as it was loaded."""
        ours = self._kept.get(model_id)
        if ours is not None:
            return ours
        context = self._catalog.context(model_id)
        return {"options": {"num_ctx": context}} if context else {}

    async def load(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        """See `core.ports.ModelLoader.load_model`. A model that is loaded as asked is left alone."""
        await self._catalog.find(model_id)  # so that unknown names leave no lock behind
        async with self._locks.setdefault(model_id, asyncio.Lock()):
            model = await self._catalog.find(model_id)
            if model.instances and _fits(model.instances[0], options):
                yield Loaded(instance=model.instances[0], seconds=0.0)
                return
            self._refuse(model, options)
            wanted = self._wanted(model, options)
            started = time.monotonic()
            call = self._ask(model, wanted)
            async with aclosing(estimated(call, model, self._estimates)) as events:
                async for event in events:
                    yield event
            instance = await self._shown(model.id)
            if instance is None:
                raise LoadUnproven(
                    f"{self._words.who} says {model.id} is loaded, but 'ollama ps' does not"
                    " show it.",
                    hint="It may have been pushed out at once by another model.",
                )
            self._kept[model.id] = wanted
            seconds = time.monotonic() - started
            self._estimates.learn(model, seconds=seconds)
            yield Loaded(instance=instance, seconds=seconds)

    async def unload(self, model_id: str) -> None:
        """See `core.ports.ModelLoader.unload_instance`. One that is gone already is as well."""
        self._kept.pop(model_id, None)
        if not (await self._catalog.find(model_id)).instances:
            return
        reply = await self._server.post(
            "/api/generate", {"model": model_id, "keep_alive": 0}, seconds=LEAVE_SECONDS
        )
        refusal: DeskError | None = None if reply.ok else reply_problem(reply, self._words)
        if await self._gone(model_id, patience=0.0 if refusal else LEAVE_SECONDS):
            return
        raise refusal or UnloadUnproven(
            f"{self._words.who} accepted the unload of {model_id}, but 'ollama ps' still shows it.",
            hint="It may still be answering somebody: it goes when it has finished.",
        )

    async def _ask(self, model: ModelInfo, wanted: dict[str, Any]) -> None:
        """An empty request, which loads and says nothing."""
        body: dict[str, Any] = {"model": model.id, "stream": False, **wanted}
        if model.kind == "embedding":
            reply = await self._server.post("/api/embed", body | {"input": []}, seconds=None)
        else:
            reply = await self._server.post("/api/generate", body, seconds=None)
        if not reply.ok:
            raise self._problem(reply)

    def _problem(self, reply: Reply) -> DeskError:
        found = reply_problem(reply, self._words)
        if isinstance(found, ModelNotFound) or not isinstance(found, ProviderError):
            return found
        if type(found) is ProviderError or reply.status >= 500:
            return LoadFailed(f"{self._words.who} could not load it: {found.message}")
        return found

    def _refuse(self, model: ModelInfo, options: LoadOptions) -> None:
        if not model.loadable:
            raise NotLoadable(
                f"{model.id} runs on Ollama's own computers: there is nothing to load.",
                hint="Just ask.",
            )
        if asked := [name for name in _SPECIAL if getattr(options, name) is not None]:
            named = ", ".join(name.replace("_", " ") for name in asked)
            raise BadParameter(
                f"{self._words.who} does not take {named} for a load.",
                hint="Set it in the environment Ollama is started with, such as"
                " OLLAMA_FLASH_ATTENTION, OLLAMA_KV_CACHE_TYPE or OLLAMA_NUM_PARALLEL.",
            )

    def _wanted(self, model: ModelInfo, options: LoadOptions) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        if options.context_length is not None:
            settings["num_ctx"] = options.context_length
        if options.eval_batch_size is not None:
            settings["num_batch"] = options.eval_batch_size
        if options.gpu_offload is not None:
            settings["num_gpu"] = self._layers(model.id, options.gpu_offload)
        wanted: dict[str, Any] = {"options": settings} if settings else {}
        if options.ttl_seconds is not None:
            wanted["keep_alive"] = options.ttl_seconds
        return wanted

    def _layers(self, model_id: str, share: float) -> int:
        blocks = self._catalog.blocks(model_id)
        if blocks is None:
            raise BadParameter(
                f"{self._words.who} does not say how many layers {model_id} has.",
                hint="Load without a share for the GPU.",
            )
        return round(share * (blocks + 1))  # and the output layer

    async def _shown(self, model_id: str) -> Instance | None:
        deadline = time.monotonic() + SHOW_SECONDS
        while True:
            instances = (await self._catalog.find(model_id)).instances
            if instances:
                return instances[0]
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(LOOK_SECONDS)

    async def _gone(self, model_id: str, *, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while (await self._catalog.find(model_id)).instances:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True


def _fits(instance: Instance, options: LoadOptions) -> bool:
    wanted = options.context_length
    return wanted is None or instance.context_length in (None, wanted)
