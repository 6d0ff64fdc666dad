"""Loads over a channel: `loadModel` always makes a new instance, `getOrLoad` only where none is."""

from contextlib import aclosing

from pydantic import Field as Constraint

from core.errors import DeskError
from infrastructure.engine.catalogue import Model
from infrastructure.engine.desk import Desk
from infrastructure.engine.instance import Instance, LoadWish
from infrastructure.engine.sdk import describe
from infrastructure.engine.sdk.frames import CallError, Channel, EndedByClient, Parameter
from infrastructure.engine.sdk.load_config import Stack, wish_of
from infrastructure.engine.selection import Kind
from infrastructure.engine.wire import Json

CANCELLED = "Model loading was cancelled."


class LoadModel(Parameter):
    """Of `loadModel`."""

    model_key: str
    identifier: str | None = Constraint(default=None, min_length=1, max_length=1024)
    ttl_ms: int | None = Constraint(default=None, ge=1)
    load_config_stack: Stack


class GetOrLoad(Parameter):
    """Of `getOrLoad`; `identifier` is one of a loaded model, or a model's key."""

    identifier: str
    load_ttl_ms: int | None = Constraint(default=None, ge=1)
    load_config_stack: Stack


class Loading:
    """The channels of one namespace that load."""

    def __init__(self, desk: Desk, kind: Kind) -> None:
        self._desk = desk
        self._kind = kind

    async def load(self, channel: Channel, given: LoadModel) -> None:
        model = await describe.find_model(self._desk, given.model_key, self._kind)
        wish = wish_of(
            given.load_config_stack,
            self._kind,
            identifier=given.identifier,
            ttl_seconds=None if given.ttl_ms is None else given.ttl_ms / 1000,
        )
        await channel.send({"type": "resolved", "info": describe.model_info(model)})
        if "load-lies" in self._desk.config.quirks:
            await channel.send({"type": "success", "info": _lie(model)})
            return
        instance = await self._loaded(channel, model, wish, "progress")
        await channel.send({"type": "success", "info": describe.instance_info(instance)})

    async def get_or_load(self, channel: Channel, given: GetOrLoad) -> None:
        if instance := describe.named(self._desk, given.identifier, self._kind):
            info = describe.instance_info(instance)
            await channel.send({"type": "alreadyLoaded", "info": info})
            return
        model = await describe.find_model(self._desk, given.identifier, self._kind)
        ttl = given.load_ttl_ms
        wish = wish_of(
            given.load_config_stack,
            self._kind,
            on_demand=True,
            ttl_seconds=self._desk.config.default_ttl_seconds if ttl is None else ttl / 1000,
        )
        start: Json = {"type": "startLoading", "identifier": model.key}
        await channel.send({**start, "info": describe.model_info(model)})
        instance = await self._loaded(channel, model, wish, "loadProgress")
        # From now on it makes room for others like one that has answered.
        async with self._desk.pool.using(instance):
            info = describe.instance_info(instance)
            await channel.send({"type": "loadSuccess", "info": info})

    async def _loaded(self, channel: Channel, model: Model, wish: LoadWish, word: str) -> Instance:
        """Load, telling each step. Raises CallError; then nothing is left of it."""
        try:
            return await channel.unless_ended(self._follow(channel, model, wish, word))
        except EndedByClient:
            raise CallError(CANCELLED) from None
        except DeskError as error:
            raise CallError.of(error) from None

    async def _follow(self, channel: Channel, model: Model, wish: LoadWish, word: str) -> Instance:
        load = self._desk.pool.begin(model, wish)
        told = 0
        async with aclosing(load.follow()) as steps:
            async for step in steps:
                for other in load.evicted[told:]:
                    told += 1
                    info = describe.instance_info(other)
                    await channel.send({"type": "unloadingOtherJITModel", "info": info})
                await channel.send({"type": word, "progress": step.fraction})
            return load.instance


def _lie(model: Model) -> Json:
    return {
        **describe.model_info(model),
        "identifier": model.key,
        "instanceReference": "none",
        "ttlMs": None,
        "lastUsedTime": None,
        "contextLength": model.header.context_length,
    }
