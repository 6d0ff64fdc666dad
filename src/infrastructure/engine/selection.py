"""Which model answers: LM Studio's rules for the `model` field, as measured on the real server."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Literal, TypeVar

from core.errors import BadParameter, ModelNotFound
from infrastructure.engine.catalogue import Model
from infrastructure.engine.instance import Instance
from infrastructure.engine.pool import Pool

Kind = Literal["llm", "embedding"]
Found = TypeVar("Found", Instance, Model)

NONE_LOADED = (
    "No models loaded. Please load a model in the developer page or use the 'lms load' command."
)
SEVERAL_LOADED = "Multiple models are loaded. Please specify a model by providing a 'model' field."


def choose(
    name: object,
    kind: Kind,
    models: Mapping[str, Model],
    pool: Pool,
    *,
    just_in_time: bool,
    any_name: bool = True,
) -> Instance | Model:
    """The instance that answers, or the model to load first. Raises ModelNotFound, BadParameter."""
    if name is None:
        return _only(kind, pool)
    if not isinstance(name, str):
        raise BadParameter("'model' field must be a string")
    if instance := pool.get(name):
        return _of_kind(instance, instance.model, kind)
    if model := find(name, models):
        if loaded := pool.of_model(model.key):
            return _of_kind(loaded[0], model, kind)
        if just_in_time:
            return _of_kind(model, model, kind)
        raise ModelNotFound(NONE_LOADED if not pool.instances else unknown(name, models))
    candidates = _loaded(kind, pool)
    # As the real one: a single loaded model answers to any name but the empty one.
    if any_name and name and kind == "llm" and len(candidates) == 1:
        return candidates[0]
    raise ModelNotFound(unknown(name, models))


def find(name: str, models: Mapping[str, Model]) -> Model | None:
    """By key; upper and lower case do not matter."""
    if exact := models.get(name):
        return exact
    folded = name.casefold()
    return next((model for key, model in models.items() if key.casefold() == folded), None)


def unknown(name: str, models: Mapping[str, Model]) -> str:
    """The sentence for a name that nothing has, with names that exist."""
    near = get_close_matches(name, models, n=3, cutoff=0.3) or list(models)[:3]
    examples = f" (e.g., {', '.join(near)})" if near else ""
    return f'Invalid model identifier "{name}". Please specify a valid downloaded model{examples}.'


def _only(kind: Kind, pool: Pool) -> Instance:
    candidates = _loaded(kind, pool)
    if len(candidates) == 1:
        return candidates[0]
    raise ModelNotFound(SEVERAL_LOADED if candidates else NONE_LOADED)


def _loaded(kind: Kind, pool: Pool) -> list[Instance]:
    wanted = kind == "embedding"
    return [one for one in pool.instances if one.model.is_embedding == wanted]


def _of_kind(found: Found, model: Model, kind: Kind) -> Found:
    if model.is_embedding != (kind == "embedding"):
        raise BadParameter(f"Model {model.key} is not {kind}.")
    return found
