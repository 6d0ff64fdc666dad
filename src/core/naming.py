"""From what a person typed to one model, or to the closest names."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from core.errors import ModelAmbiguous, ModelNotFound
from core.models import ModelInfo

# More names nobody reads.
TOLD = 12


def available(models: Sequence[ModelInfo]) -> str:
    """A sentence that names what can be asked; empty where there is nothing."""
    names = [model.full_name for model in models if model.kind == "llm"]
    names = names or [model.full_name for model in models]
    more = f", and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return f"Available: {', '.join(names[:TOLD])}{more}." if names else ""


class NameIndex:
    """All models by full name, and by every bare name they go by."""

    def __init__(self, models: Iterable[ModelInfo], providers: Iterable[str]) -> None:
        self.models = tuple(models)
        self._providers = frozenset(providers)
        self._full: dict[str, ModelInfo] = {}
        self._bare: dict[str, list[ModelInfo]] = {}
        for model in self.models:
            self._full[model.full_name.casefold()] = model
            for instance in model.instances:
                self._full.setdefault(f"{model.provider}:{instance.id}".casefold(), model)
            names = (model.id, model.name, *(instance.id for instance in model.instances))
            for name in {name.casefold() for name in names}:
                self._bare.setdefault(name, []).append(model)

    def find(self, name: str) -> ModelInfo | None:
        """The one model of this name; None if there is none. Raises ModelAmbiguous."""
        key = name.strip().casefold()
        if found := self._full.get(key):
            return found
        if self.provider_of(name) is not None:
            return None
        candidates = self._bare.get(key, [])
        # Of two that go by this name the one that can be had now is meant.
        candidates = [m for m in candidates if m.stale_since is None] or candidates
        if len(candidates) > 1:
            names = [model.full_name for model in candidates]
            raise ModelAmbiguous(
                f"Several providers serve {name!r}.",
                hint=f"Say which one: {', '.join(names)}.",
                candidates=names,
            )
        return candidates[0] if candidates else None

    def provider_of(self, name: str) -> str | None:
        """The provider a full name speaks of; None for a bare name."""
        prefix, colon, _ = name.strip().partition(":")
        return prefix if colon and prefix in self._providers else None

    def not_found(self, name: str) -> ModelNotFound:
        """The error that names the closest models there are."""
        closest = self.closest(name)
        if closest:
            hint = f"Did you mean {' or '.join(closest)}?"
        elif self.models:
            hint = available(self.models)
        else:
            hint = "No provider serves any model at the moment."
        return ModelNotFound(
            f"No provider serves a model named {name!r}.", hint=hint, candidates=closest
        )

    def closest(self, name: str, *, limit: int = 3) -> list[str]:
        """Full names, best first."""
        provider = self.provider_of(name)
        bare = name.partition(":")[2] if provider else name
        bare = bare.strip().casefold()
        spellings: dict[str, str] = {}
        for model in self.models:
            tail = model.id.rpartition("/")[2]
            for spelling in (model.id, model.name, tail, model.full_name):
                spellings.setdefault(spelling.casefold(), model.full_name)
        near = get_close_matches(bare, spellings, n=limit * 3, cutoff=0.5)
        inside = [spelling for spelling in spellings if bare and bare in spelling]
        return list(dict.fromkeys(spellings[s] for s in [*near, *inside]))[:limit]
