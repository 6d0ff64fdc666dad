"""Models brought into memory and taken out of it, where only a re-read of the list counts as done."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from difflib import get_close_matches

from core.errors import (
    BadParameter,
    DeskError,
    LoadFailed,
    LoadUnproven,
    ModelNotFound,
    NotEnoughMemory,
    NotLoadable,
    UnloadUnproven,
)
from core.models import Instance, Loaded, LoadEvent, LoadOptions, ModelInfo
from infrastructure.providers.lmstudio.detect import detect
from infrastructure.providers.lmstudio.estimate import LoadEstimates
from infrastructure.providers.lmstudio.listing import list_models
from infrastructure.providers.lmstudio.problems import reply_problem
from infrastructure.providers.lmstudio.rungs import (
    POLL_SECONDS,
    Progress,
    RungMissing,
    just_in_time,
    through_chat,
    through_load_route,
)
from infrastructure.providers.lmstudio.server import Flavour, Server

# How long a list may lag behind what the server has just said.
SHOW_SECONDS = 3.0
LEAVE_SECONDS = 10.0
LOOK_SECONDS = 0.1


class Loading:
    """Loads and unloads on one server."""

    def __init__(self, server: Server, provider: str) -> None:
        self._server = server
        self._provider = provider
        self._estimates = LoadEstimates()
        self._locks: dict[str, asyncio.Lock] = {}

    async def load(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        """See `core.ports.ModelLoader.load_model`. A loaded model is reported as it is."""
        await self._find(model_id)  # before the lock, so that unknown names leave none behind
        async with self._locks.setdefault(model_id, asyncio.Lock()):
            model = await self._find(model_id)
            if model.instances:
                yield Loaded(instance=_fitting(model.instances, options), seconds=0.0)
                return
            flavour = await detect(self._server)
            started = time.monotonic()
            failure: DeskError | None = None
            try:
                async with aclosing(self._climb(flavour, model, options)) as events:
                    async for event in events:
                        yield event
            except (LoadFailed, NotEnoughMemory, ModelNotFound, NotLoadable, BadParameter):
                raise
            except DeskError as error:
                failure = error  # the model may be there all the same: the list decides
            instance = await self._shown(model_id, patience=0.0 if failure else SHOW_SECONDS)
            if instance is None:
                raise failure or self._unproven(model)
            seconds = time.monotonic() - started
            self._estimates.learn(model, seconds=seconds)
            yield Loaded(instance=instance, seconds=seconds)

    async def unload(self, instance_id: str) -> None:
        """See `core.ports.ModelLoader.unload_instance`."""
        words = self._server.wording
        if await detect(self._server) != "api/v1":
            raise NotLoadable(
                f"{words.who} 0.3 cannot unload over HTTP: eject it in {words.it}.",
                hint="LM Studio 0.4 can; or wait until the model's idle time is over.",
            )
        reply = await self._server.post(
            "/api/v1/models/unload", {"instance_id": instance_id}, seconds=LEAVE_SECONDS
        )
        gone = await self._gone(instance_id, patience=LEAVE_SECONDS if reply.ok else 0.0)
        if gone:
            return
        if reply.ok or reply.route_missing:
            raise UnloadUnproven(
                f"{words.who} accepted the unload of {instance_id}, but still lists it.",
                hint=f"Eject it in {words.it}.",
            )
        raise reply_problem(reply, words)

    def _climb(self, flavour: Flavour, model: ModelInfo, options: LoadOptions) -> Progress:
        if flavour == "v1":
            raise NotLoadable(
                f"{self._server.wording.who} does not say here what is loaded.",
                hint="Just ask: the first message loads the model if the server can.",
            )
        if flavour == "api/v1" and options.ttl_seconds and options.context_length:
            raise BadParameter(
                "Over HTTP, LM Studio takes a context length or an idle time for a load, not both."
            )
        return self._first_that_exists(self._rungs(flavour, model, options))

    def _rungs(
        self, flavour: Flavour, model: ModelInfo, options: LoadOptions
    ) -> Sequence[Progress]:
        server, estimates = self._server, self._estimates
        if flavour == "api/v0":
            landed = lambda: self._landed(model.id)  # noqa: E731
            return [just_in_time(server, model, options, estimates, landed=landed)]
        last = just_in_time(server, model, options, estimates)
        if options.ttl_seconds is not None:
            return [last]
        by_route = through_load_route(server, model, options, estimates)
        if model.kind == "embedding":
            return [by_route, last]
        return [through_chat(server, model, options), by_route, last]

    async def _first_that_exists(self, rungs: Sequence[Progress]) -> Progress:
        for rung in rungs:
            try:
                async with aclosing(rung) as events:
                    async for event in events:
                        yield event
                return
            except RungMissing:
                continue
        raise LoadUnproven(
            f"{self._server.wording.who} has no route that loads a model, whatever status it"
            " answers with.",
            hint=f"Load it in {self._server.wording.it} itself.",
        )

    async def _find(self, model_id: str) -> ModelInfo:
        models = await list_models(self._server, self._provider)
        for model in models:
            if model.id == model_id:
                return model
        close = get_close_matches(model_id, [model.id for model in models], n=5, cutoff=0.4)
        raise ModelNotFound(
            f"{self._server.wording.who} has no model named {model_id!r}.",
            hint=f"Did you mean {close[0]}?" if close else "",
            candidates=[f"{self._provider}:{name}" for name in close],
        )

    async def _shown(self, model_id: str, *, patience: float) -> Instance | None:
        """The model's instance as the list shows it; there was none before."""
        deadline = time.monotonic() + patience
        while True:
            model = await self._find(model_id)
            if model.instances:
                return model.instances[0]
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(LOOK_SECONDS)

    async def _landed(self, model_id: str) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if (await self._find(model_id)).instances:
                return

    async def _gone(self, instance_id: str, *, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while True:
            models = await list_models(self._server, self._provider)
            if not any(i.id == instance_id for model in models for i in model.instances):
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)

    def _unproven(self, model: ModelInfo) -> LoadUnproven:
        words = self._server.wording
        return LoadUnproven(
            f"{words.who} says {model.id} is loaded, but its list does not show it.",
            hint=f"Look at {words.it}'s own window, and try again.",
        )


def _fitting(instances: Sequence[Instance], options: LoadOptions) -> Instance:
    """The instance with the context asked for, else the first."""
    wanted = options.context_length
    return next((i for i in instances if wanted and i.context_length == wanted), instances[0])
