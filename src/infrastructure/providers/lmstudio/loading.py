"""Models brought into memory and taken out of it, where only a re-read of the list counts as done."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

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
from infrastructure.providers.estimate import LoadEstimates
from infrastructure.providers.lmstudio import calls
from infrastructure.providers.lmstudio.catalog import Catalog
from infrastructure.providers.lmstudio.detect import detect
from infrastructure.providers.lmstudio.rungs import (
    LOAD_ROUTE_TAKES,
    POLL_SECONDS,
    Progress,
    RungMissing,
    just_in_time,
    through_chat,
    through_load_route,
)
from infrastructure.providers.lmstudio.server import Flavour, Server
from infrastructure.providers.lmstudio.socket import CallRefused
from infrastructure.providers.lmstudio.socket_load import through_socket
from infrastructure.providers.lmstudio.sockets import MethodMissing, Sockets
from infrastructure.providers.problems import problem, reply_problem

# How long a list may lag behind what the server has just said.
SHOW_SECONDS = 3.0
LEAVE_SECONDS = 10.0
LOOK_SECONDS = 0.1
# What a request that loads in passing cannot carry.
_SPECIAL = ("gpu_offload", "flash_attention", "kv_cache_type", "eval_batch_size", "parallel")


class Loading:
    """Loads and unloads on one server."""

    def __init__(self, server: Server, sockets: Sockets, catalog: Catalog) -> None:
        self._server = server
        self._sockets = sockets
        self._catalog = catalog
        self._estimates = LoadEstimates()
        self._locks: dict[str, asyncio.Lock] = {}

    async def load(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        """See `core.ports.ModelLoader.load_model`. A loaded model is reported as it is."""
        await self._catalog.find(
            model_id
        )  # before the lock, so that unknown names leave none behind
        async with self._locks.setdefault(model_id, asyncio.Lock()):
            model = await self._catalog.find(model_id)
            if model.instances:
                yield Loaded(instance=_fitting(model.instances, options), seconds=0.0)
                return
            if not model.loadable:
                raise NotLoadable(
                    f"{self._server.wording.who} does not say here what is loaded.",
                    hint="Just ask: the first message loads the model if the server can.",
                )
            started = time.monotonic()
            failure: DeskError | None = None
            came: list[str] = []
            try:
                async with aclosing(self._climb(model, options, came)) as events:
                    async for event in events:
                        yield event
            except (LoadFailed, NotEnoughMemory, ModelNotFound, NotLoadable, BadParameter):
                raise
            except DeskError as error:
                failure = error  # the model may be there all the same: the list decides
            instance = await self._shown(model, came, patience=0.0 if failure else SHOW_SECONDS)
            if instance is None:
                raise failure or self._unproven(model)
            seconds = time.monotonic() - started
            self._estimates.learn(model, seconds=seconds)
            yield Loaded(instance=instance, seconds=seconds)

    async def unload(self, instance_id: str) -> None:
        """See `core.ports.ModelLoader.unload_instance`."""
        words = self._server.wording
        refusal = await self._let_go(instance_id)
        if await self._gone(instance_id, patience=0.0 if refusal else LEAVE_SECONDS):
            return
        raise refusal or UnloadUnproven(
            f"{words.who} accepted the unload of {instance_id}, but still lists it.",
            hint=f"Eject it in {words.it}.",
        )

    async def _let_go(self, instance_id: str) -> DeskError | None:
        """Ask for the unload; what the server had against it."""
        words = self._server.wording
        missing: DeskError = NotLoadable(
            f"{words.who} 0.3 cannot unload over HTTP: eject it in {words.it}.",
            hint="LM Studio 0.4 can; or wait until the model's idle time is over.",
        )
        if await detect(self._server) == "api/v1":
            reply = await self._server.post(
                "/api/v1/models/unload", {"instance_id": instance_id}, seconds=LEAVE_SECONDS
            )
            if not reply.route_missing:
                return None if reply.ok else reply_problem(reply, words)
            missing = UnloadUnproven(
                f"{words.who} has no way to unload {instance_id}.", hint=f"Eject it in {words.it}."
            )
        kind = await self._catalog.kind_of(instance_id)
        try:
            await calls.unload(self._sockets, kind or "llm", instance_id)
        except MethodMissing:
            return missing
        except CallRefused as error:
            return problem(error.error, words)
        return None

    def _climb(self, model: ModelInfo, options: LoadOptions, came: list[str]) -> Progress:
        def loaded(instance: calls.WireLoaded | None) -> None:
            came.extend([] if instance is None else [instance.identifier])

        sockets = [
            through_socket(
                self._server,
                self._sockets,
                endpoint,
                model,
                options,
                loaded=loaded,
                left=lambda: self._left(model.id),
            )
            for endpoint in ("loadModel", "getOrLoad")
        ]
        return self._first_that_exists([*sockets, self._over_http(model, options)])

    async def _over_http(self, model: ModelInfo, options: LoadOptions) -> Progress:
        flavour = await detect(self._server)
        if flavour == "v1":
            raise RungMissing
        if flavour == "api/v1" and options.ttl_seconds and options.context_length:
            raise BadParameter(
                "Over HTTP, LM Studio takes a context length or an idle time for a load, not both."
            )
        async with aclosing(
            self._first_that_exists(self._rungs(flavour, model, options))
        ) as events:
            async for event in events:
                yield event

    def _rungs(
        self, flavour: Flavour, model: ModelInfo, options: LoadOptions
    ) -> Sequence[Progress]:
        server, estimates = self._server, self._estimates
        special = _special(model, options)
        routed = flavour == "api/v1" and options.ttl_seconds is None
        if special - (LOAD_ROUTE_TAKES if routed else set()):
            raise BadParameter(
                f"Over HTTP, {server.wording.it} does not take {_listed(special)} for a load.",
                hint="Load without, or set it in the model's settings there.",
            )
        if flavour == "api/v0":
            landed = lambda: self._landed(model.id)  # noqa: E731
            return [just_in_time(server, model, options, estimates, landed=landed)]
        last = just_in_time(server, model, options, estimates)
        if options.ttl_seconds is not None:
            return [last]
        by_route = through_load_route(server, model, options, estimates)
        if special:
            return [by_route]
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

    async def _shown(
        self, model: ModelInfo, came: Sequence[str], *, patience: float
    ) -> Instance | None:
        """The model's instance as the list shows it, the one that came if that is known."""
        deadline = time.monotonic() + patience
        while True:
            instances = (await self._catalog.find(model.id)).instances
            named = [instance for instance in instances if instance.id in came]
            if named or (instances and (not came or time.monotonic() >= deadline)):
                return await self._measured(model, (named or instances)[0])
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(LOOK_SECONDS)

    async def _measured(self, model: ModelInfo, instance: Instance) -> Instance:
        """With its context, where the list does not tell it."""
        if instance.context_length is not None:
            return instance
        with suppress(MethodMissing, CallRefused, DeskError):
            length = await calls.context_length(self._sockets, model.kind, instance.id)
            return instance.model_copy(update={"context_length": length})
        return instance

    async def _landed(self, model_id: str) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if (await self._catalog.find(model_id)).instances:
                return

    async def _left(self, model_id: str) -> None:
        while True:
            if (await self._catalog.find(model_id)).state == "not-loaded":
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _gone(self, instance_id: str, *, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while True:
            models = await self._catalog.models()
            told = any(model.loadable for model in models) or not models
            if told and not any(i.id == instance_id for m in models for i in m.instances):
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


def _special(model: ModelInfo, options: LoadOptions) -> set[str]:
    """The options asked for beyond context and idle time; an embedder has only one."""
    names = _SPECIAL[:1] if model.kind == "embedding" else _SPECIAL
    return {name for name in names if getattr(options, name) is not None}


def _listed(names: set[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in sorted(names))
