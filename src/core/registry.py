"""Registry: every model of every provider, found by name and by words, without asking them each time."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from core.errors import DeskError, ProviderNotFound
from core.gate import Gate
from core.hot import Hot
from core.models import ModelInfo, ModelState
from core.naming import NameIndex
from core.ports import Provider
from core.providers import ProviderConfig
from core.search import SearchIndex
from core.shelf import Shelf
from core.value import Value

# Other clients load and unload too, and LM Studio tells nobody: how old a list may be for showing,
# and before something is done that depends on it.
LIST_MAX_AGE = 300.0
ACT_MAX_AGE = 2.0
# On a first look, how long the providers that answered wait for those that do not.
FIRST_LOOK_GRACE = 0.12


class ListStats(Value):
    """How a provider's list of models has been doing."""

    models: int
    age_seconds: float | None
    """Of the last good list; None when there was none yet."""
    stale: bool
    """Shown although its provider cannot be asked now."""
    hits: int
    misses: int
    breaker: str
    """closed, open or half_open."""
    running: int
    """Requests under way."""
    waiting: int
    """Requests in the line before it."""
    error: str | None
    """Why the last list could not be had."""


class NameStats(Value):
    """How looking up names has been doing."""

    kept: int
    hits: int
    misses: int
    evictions: int


class Registry:
    """Lists, resolves and searches."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._shelves: dict[str, Shelf] = {}
        self._gates: dict[str, Gate] = {}
        self._moving: dict[str, ModelState] = {}
        self._moves = 0
        self._index = NameIndex((), ())
        self._found = SearchIndex(())
        self._default: ModelInfo | None = None
        self._index_mark: tuple[object, ...] = ()
        self._hot = Hot()
        self.on_listed: Callable[[Iterable[ModelInfo]], None] | None = None
        """Hears of every new list, without the stale ones."""
        for provider in providers:
            self.add(provider)

    # -- which providers -------------------------------------------------------------------------

    @property
    def providers(self) -> list[Provider]:
        return [shelf.provider for shelf in self._shelves.values()]

    def add(self, provider: Provider, config: ProviderConfig | None = None) -> None:
        """Take a provider in; one of the same name is replaced."""
        if config is None:
            config = ProviderConfig(name=provider.name, kind=provider.kind, base_url="")
        self._shelves[provider.name] = Shelf(provider, config)
        self._gates[provider.name] = Gate(config)
        self._moves += 1

    async def remove(self, name: str) -> None:
        """Let a provider go. Raises ProviderNotFound. The caller closes it."""
        shelf = self._shelf(name)
        del self._shelves[name], self._gates[name]
        self._moves += 1
        await shelf.aclose()

    def provider(self, name: str) -> Provider:
        """Raises ProviderNotFound."""
        return self._shelf(name).provider

    def config(self, name: str) -> ProviderConfig:
        """Raises ProviderNotFound."""
        return self._shelf(name).config

    def gate(self, name: str) -> Gate:
        """The way to a provider. Raises ProviderNotFound."""
        self._shelf(name)
        return self._gates[name]

    def seen_well(self, name: str) -> None:
        """A provider was found in order: if it was left alone, the next request may try it."""
        if (gate := self._gates.get(name)) is not None:
            gate.breaker.seen_well()

    # -- looking ---------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """Grows whenever a list, or the state of a model in it, changed."""
        return sum(shelf.revision for shelf in self._shelves.values()) + self._moves

    def errors(self) -> dict[str, DeskError]:
        """Providers whose last list could not be had, and why."""
        return {name: shelf.error for name, shelf in self._shelves.items() if shelf.error}

    def stats(self) -> dict[str, ListStats]:
        """By provider."""
        return {name: self._stats(name, shelf) for name, shelf in self._shelves.items()}

    def name_stats(self) -> NameStats:
        """Of all looking up of names."""
        hot = self._hot
        return NameStats(kept=len(hot), hits=hot.hits, misses=hot.misses, evictions=hot.evictions)

    def listed(self) -> tuple[ModelInfo, ...]:
        """What is known now, asking nobody."""
        return self._indexed().models

    async def models(self, *, max_age: float = LIST_MAX_AGE) -> tuple[ModelInfo, ...]:
        """Every model that can be had, with its state. A dead provider delays no one.

        Models of a provider that cannot be asked now carry `stale_since`.
        """
        await self._refresh(max_age)
        return self._indexed().models

    async def models_of(self, provider: str, *, max_age: float = LIST_MAX_AGE) -> list[ModelInfo]:
        """One provider's models. Raises ProviderNotFound, or the error that kept us from listing."""
        shelf = self._shelf(provider)
        await shelf.fresh(max_age=max_age)
        if shelf.error is not None:
            raise shelf.error
        return [model for model in self._indexed().models if model.provider == provider]

    async def search(self, query: str) -> list[ModelInfo]:
        """Models that contain every word of the query somewhere, best first."""
        await self._refresh(LIST_MAX_AGE)
        self._indexed()
        return self._found.matching(query)

    async def resolve(self, name: str) -> ModelInfo:
        """The model of this full or bare name. Raises ModelNotFound, ModelAmbiguous, or
        what keeps its provider from answering.

        A hit in the cache costs microseconds; a miss asks the providers once more first.
        """
        index = self._indexed()
        if (found := self._hot.get(name, self._index_mark)) is not None:
            return found
        found = index.find(name)
        if found is None or found.stale_since is not None:
            await self._refresh(ACT_MAX_AGE)
            index = self._indexed()
            found = index.find(name)
        if found is not None and found.stale_since is None:
            self._hot.keep(name, found, self._index_mark)
            return found
        provider = found.provider if found else index.provider_of(name)
        if provider is not None and (error := self._shelves[provider].error) is not None:
            raise error  # whether the model is there nobody can say now
        raise index.not_found(name)

    async def default_model(self) -> ModelInfo | None:
        """What to chat with when nobody said: a loaded model, else the first there is.

        Somebody else's computer is never chosen by itself.
        """
        await self._refresh(LIST_MAX_AGE)
        self._indexed()
        return self._default

    async def refresh(self, *, max_age: float) -> None:
        """Ask every provider whose list is older than this. For the background watch."""
        await asyncio.gather(*(s.fresh(max_age=max_age) for s in self._shelves.values()))

    async def aclose(self) -> None:
        for shelf in self._shelves.values():
            await shelf.aclose()

    # -- for the library -------------------------------------------------------------------------

    def _shelf(self, name: str) -> Shelf:
        try:
            return self._shelves[name]
        except KeyError:
            raise ProviderNotFound(
                f"There is no provider named {name!r}.",
                hint=f"Configured: {', '.join(self._shelves)}.",
            ) from None

    def _move(self, model: ModelInfo, state: ModelState | None) -> None:
        if state is None:
            self._moving.pop(model.full_name, None)
        else:
            self._moving[model.full_name] = state
        self._moves += 1

    async def _current(self, model: ModelInfo, *, max_age: float = 0.0) -> ModelInfo:
        """The model as the provider lists it now: somebody else may just have taken it out.

        Raises its error, or ModelNotFound.
        """
        shelf = self._shelf(model.provider)
        await shelf.fresh(max_age=max_age)
        if shelf.error is not None:
            raise shelf.error
        for listed in shelf.models:
            if listed.id == model.id:
                return listed
        raise self._indexed().not_found(model.full_name)

    # -- inside ----------------------------------------------------------------------------------

    def _stats(self, name: str, shelf: Shelf) -> ListStats:
        gate = self._gates[name]
        return ListStats(
            models=len(shelf.models),
            age_seconds=None if shelf.listed_at is None else time.time() - shelf.listed_at,
            stale=shelf.error is not None and bool(shelf.models),
            hits=shelf.hits,
            misses=shelf.misses,
            breaker=gate.breaker.state,
            running=gate.line.inside,
            waiting=gate.line.waiting,
            error=shelf.error.message if shelf.error else None,
        )

    async def _refresh(self, max_age: float) -> None:
        looks = [
            asyncio.create_task(shelf.fresh(max_age=max_age))
            for shelf in self._shelves.values()
            if not shelf.at_hand(max_age)
        ]
        if not looks:
            return
        _, pending = await asyncio.wait(looks, return_when=asyncio.FIRST_COMPLETED)
        while pending and not self._indexed().models:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            _, pending = await asyncio.wait(pending, timeout=FIRST_LOOK_GRACE)
        for look in pending:
            look.cancel()  # only our waiting: the shelf goes on and will be there next time

    def _indexed(self) -> NameIndex:
        mark = (self._moves, *(shelf.revision for shelf in self._shelves.values()))
        if mark != self._index_mark:
            listed = [model for shelf in self._shelves.values() for model in shelf.models]
            if self.on_listed is not None:
                self.on_listed(model for model in listed if model.stale_since is None)
            models = [self._as_moving(model) for model in listed]
            self._index, self._index_mark = NameIndex(models, self._shelves), mark
            self._found = SearchIndex(models)
            self._default = self._first_choice(models)
        return self._index

    def _first_choice(self, models: Sequence[ModelInfo]) -> ModelInfo | None:
        chatty = [
            model
            for model in models
            if model.kind == "llm"
            and model.stale_since is None
            and not self._shelves[model.provider].config.remote
        ]
        return next((model for model in chatty if model.loaded), next(iter(chatty), None))

    def _as_moving(self, model: ModelInfo) -> ModelInfo:
        state = self._moving.get(model.full_name)
        return model.model_copy(update={"state": state}) if state else model
