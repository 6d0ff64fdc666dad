"""Finding models by what people remember of them."""

from collections.abc import Iterable

from core.models import ModelInfo


def matching(models: Iterable[ModelInfo], query: str) -> list[ModelInfo]:
    """Models that contain every word of the query somewhere; names count most, then loaded ones."""
    words = query.casefold().split()
    ranked = []
    for model in models:
        name = f"{model.full_name} {model.name}".casefold()
        text = f"{name} {_other_words(model)}"
        if all(word in text for word in words):
            rank = sum(word in name for word in words) + 0.5 * model.loaded
            ranked.append((-rank, model.full_name, model))
    return [model for _, _, model in sorted(ranked, key=lambda entry: entry[:2])]


def _other_words(model: ModelInfo) -> str:
    able = [name for name, has in model.capabilities if has]
    facts = (model.quantization, model.parameters, model.architecture, model.publisher, model.kind)
    loaded = ["loaded"] if model.loaded else []
    return " ".join([*(fact for fact in facts if fact), *able, *loaded]).casefold()
