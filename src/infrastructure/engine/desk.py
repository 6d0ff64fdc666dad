"""What every route works with: the catalogue, the pool, and the way from a name to an instance."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp

from core.errors import DeskError, LoadFailed, NotEnoughMemory
from infrastructure.engine.catalogue import Catalogue, Model
from infrastructure.engine.config import EngineConfig
from infrastructure.engine.instance import Instance, LoadWish
from infrastructure.engine.pool import Pool
from infrastructure.engine.selection import Kind, choose


@dataclass(frozen=True)
class Desk:
    """One engine's parts, for its routes."""

    config: EngineConfig
    catalogue: Catalogue
    pool: Pool
    session: aiohttp.ClientSession

    async def models(self) -> dict[str, Model]:
        """What is on the machine now."""
        return await asyncio.to_thread(self.catalogue.models)

    async def borrow(
        self, stack: AsyncExitStack, name: object, kind: Kind, ttl: object = None
    ) -> Instance:
        """The instance that answers to this name, loaded if need be, held until `stack` closes.

        Raises ModelNotFound, BadParameter, LoadFailed, NotEnoughMemory.
        """
        instance = self.pool.get(name) if isinstance(name, str) else None
        if instance is None or instance.model.is_embedding != (kind == "embedding"):
            models = await self.models()
            chosen = self.choose(name, kind, models)
            instance = chosen if isinstance(chosen, Instance) else await self._load(chosen, ttl)
        return await stack.enter_async_context(self.pool.using(instance))

    def choose(self, name: object, kind: Kind, models: Mapping[str, Model]) -> Instance | Model:
        """What answers to this name. Raises ModelNotFound, BadParameter."""
        return choose(
            name,
            kind,
            models,
            self.pool,
            just_in_time=self.config.just_in_time,
            any_name="single-model-answers-any-name" in self.config.quirks,
        )

    def wish_on_demand(self, ttl: object = None, context_length: int | None = None) -> LoadWish:
        """A load that a request for an answer causes. A ttl that is none counts as none."""
        usable = isinstance(ttl, int) and not isinstance(ttl, bool) and ttl > 0
        return LoadWish(
            on_demand=True,
            ttl_seconds=ttl if usable else self.config.default_ttl_seconds,
            context_length=context_length,
        )

    async def _load(self, model: Model, ttl: object) -> Instance:
        try:
            return await self.pool.load(model, self.wish_on_demand(ttl))
        except (LoadFailed, NotEnoughMemory) as error:
            raise told(error, f'Failed to load model "{model.key}". Error: ') from None


def told(error: DeskError, prefix: str) -> DeskError:
    """The same error with what it happened to in front."""
    return type(error)(prefix + error.message, hint=error.hint)
