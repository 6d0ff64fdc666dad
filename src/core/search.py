"""Finding models by what people remember of them."""

from collections.abc import Iterable

from core.models import ModelInfo


class SearchIndex:
    """Models with their words, read once for many searches."""

    def __init__(self, models: Iterable[ModelInfo]) -> None:
        # In the order of their names: what ranks alike then comes out in it.
        self._models = sorted(models, key=lambda model: model.full_name)
        self._texts: list[tuple[str, str]] = []

    def matching(self, query: str) -> list[ModelInfo]:
        """Models that contain every word of the query: names count most, then loaded ones."""
        words = query.casefold().split()
        if len(self._texts) != len(self._models):
            self._texts = [_texts(model) for model in self._models]
        ranked = []
        for model, (name, text) in zip(self._models, self._texts, strict=True):
            if all(word in text for word in words):
                rank = sum(word in name for word in words) + 0.5 * bool(model.instances)
                ranked.append((rank, model))
        ranked.sort(key=lambda entry: -entry[0])
        return [model for _, model in ranked]


def matching(models: Iterable[ModelInfo], query: str) -> list[ModelInfo]:
    """The same for a list that is searched once."""
    return SearchIndex(models).matching(query)


def _texts(model: ModelInfo) -> tuple[str, str]:
    """Its names, and everything it can be found by."""
    name = f"{model.full_name} {model.name}".casefold()
    return name, f"{name} {_other_words(model)}"


def _other_words(model: ModelInfo) -> str:
    able = [name for name, has in model.capabilities if has]
    facts = (model.quantization, model.parameters, model.architecture, model.publisher, model.kind)
    size = [f"{model.size_bytes / 1e9:.1f}gb"] if model.size_bytes else []
    loaded = ["loaded"] if model.loaded else []
    return " ".join([*(fact for fact in facts if fact), *able, *size, *loaded]).casefold()
