"""LoadSettings: how each model is to be loaded, remembered over restarts, and where each option comes from."""

from typing import Any, Literal

from core.models import Instance, LoadOptions, ModelInfo
from core.ports import LoadSettingsStore
from core.value import Value

OptionLevel = Literal["remembered", "provider"]
OPTIONS = tuple(LoadOptions.model_fields)
ALL_OPTIONS = frozenset(OPTIONS)


class OptionChoice(Value):
    """One option of the next load."""

    name: str
    value: Any = None
    """None where the provider decides."""
    level: OptionLevel


class LoadSettingsView(Value):
    """What is remembered for a model, and what it is loaded with."""

    model_id: str
    """Full name."""
    options: LoadOptions
    """As remembered; None is left to the provider."""
    takes: tuple[str, ...]
    """Names of the options its provider takes for a load; the others mean nothing there."""
    choices: tuple[OptionChoice, ...]
    """The same, option by option, with the level that decides it."""
    max_context_length: int | None
    loaded: tuple[Instance, ...]


class LoadSettings:
    """The remembered options of all models. `open` reads them once; lookups cost nothing."""

    def __init__(self, store: LoadSettingsStore) -> None:
        self._store = store
        self._kept: dict[str, LoadOptions] = {}

    async def open(self) -> None:
        """Read what was remembered. Raises StorageError."""
        self._kept = await self._store.load_settings()

    def of(self, model: ModelInfo) -> LoadOptions:
        """What is remembered for this model; all None if nothing is."""
        return self._kept.get(model.full_name, LoadOptions())

    def over(self, model: ModelInfo, asked: LoadOptions, *, takes: frozenset[str]) -> LoadOptions:
        """What to load with: what was asked for now wins, then what is remembered.

        Of what is remembered only what the provider `takes`: a model's name can move to another
        kind of server, and then an old setting would fail every load.
        """
        kept = self.of(model).model_dump(include=set(takes), exclude_none=True)
        return LoadOptions(**kept).model_copy(update=asked.model_dump(exclude_none=True))

    def choices(self, model: ModelInfo) -> tuple[OptionChoice, ...]:
        """Every option of a load that asks for nothing special, with where its value comes from."""
        kept = self.of(model)
        return tuple(
            OptionChoice(
                name=name,
                value=(value := getattr(kept, name)),
                level="provider" if value is None else "remembered",
            )
            for name in OPTIONS
        )

    async def remember(self, model: ModelInfo, options: LoadOptions) -> None:
        """Use these from now on; none at all forgets the model. Raises StorageError."""
        known = options if options != LoadOptions() else None
        await self._store.keep_load_settings(model.full_name, known)
        if known is None:
            self._kept.pop(model.full_name, None)
        else:
            self._kept[model.full_name] = known
