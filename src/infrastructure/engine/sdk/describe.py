"""Models and instances as the client libraries know them, and which of them a client means."""

from collections.abc import Iterable, Mapping
from typing import Literal

from infrastructure.engine import selection
from infrastructure.engine.catalogue import Model
from infrastructure.engine.desk import Desk
from infrastructure.engine.instance import Instance
from infrastructure.engine.sdk.frames import CallError, Parameter
from infrastructure.engine.selection import Kind
from infrastructure.engine.wire import Json

_SAMPLE = 5


class Query(Parameter):
    """A loaded model that fits; without a wish, any."""

    domain: str | None = None
    identifier: str | None = None
    path: str | None = None
    vision: bool | None = None


class Specifier(Parameter):
    """Which loaded model is meant."""

    type: Literal["query", "instanceReference"]
    query: Query = Query()
    instance_reference: str | None = None


def model_info(model: Model) -> Json:
    """`ModelInfo`: a model on disk."""
    header = model.header
    info: Json = {
        "type": kind_of(model),
        "modelKey": model.key,
        "format": "gguf",
        "displayName": model.name,
        "publisher": model.publisher,
        "path": path_of(model),
        "sizeBytes": model.size_bytes,
        "indexedModelIdentifier": path_of(model),
        "deviceIdentifier": None,
        "architecture": header.architecture,
        "maxContextLength": header.context_length,
    }
    if header.parameters:
        info["paramsString"] = header.parameters
    if header.quantization:
        bits = round(header.bits_per_weight or 0)
        info["quantization"] = {"name": header.quantization, "bits": bits}
    if not model.is_embedding:
        info |= {"vision": model.projector is not None, "trainedForToolUse": model.uses_tools}
    return info


def instance_info(instance: Instance) -> Json:
    """`InstanceInfo`: a loaded model."""
    used, ttl = instance.last_used, instance.ttl_seconds
    return {
        **model_info(instance.model),
        "identifier": instance.id,
        "instanceReference": instance.reference,
        "ttlMs": None if ttl is None else round(ttl * 1000),
        "lastUsedTime": None if used is None else round(used * 1000),
        "contextLength": instance.context_length,
    }


def kind_of(model: Model) -> Kind:
    """Which namespace it belongs to."""
    return "embedding" if model.is_embedding else "llm"


def path_of(model: Model) -> str:
    """Below its folder of models; where that is, is nobody's business."""
    name = model.path.name
    return name if "/" not in model.key else f"{model.key.partition('@')[0]}/{name}"


async def find_model(desk: Desk, name: str, kind: Kind) -> Model:
    """The model on disk of this key or path. Raises CallError."""
    models = await desk.models()
    model = selection.find(name, models)
    if model is None:
        model = next((one for one in models.values() if path_of(one) == name), None)
    if model is None:
        raise _not_on_disk(name, models)
    if kind_of(model) != kind:
        raise CallError(
            f"The model {model.key} is no {kind} model.",
            display={
                "code": "generic.domainMismatch",
                "path": name,
                "actualDomain": kind_of(model),
                "expectedDomain": kind,
            },
        )
    return model


def loaded(desk: Desk, kind: Kind) -> list[Instance]:
    """All of one kind, oldest first."""
    return [one for one in desk.pool.instances if kind_of(one.model) == kind]


def named(desk: Desk, name: str, kind: Kind) -> Instance | None:
    """The loaded instance of this identifier, or else of this model."""
    candidates = loaded(desk, kind)
    exact = (one for one in candidates if one.id == name)
    of_model = (one for one in candidates if name in (one.model.key, path_of(one.model)))
    return next(exact, None) or next(of_model, None)


def find_instance(desk: Desk, wanted: Specifier, kind: Kind) -> Instance:
    """The loaded model that is meant. Raises CallError."""
    candidates = loaded(desk, kind)
    if wanted.type == "instanceReference":
        for one in candidates:
            if one.reference == wanted.instance_reference:
                return one
        raise CallError(
            "This model has been unloaded.", display={"code": "generic.specificModelUnloaded"}
        )
    query = wanted.query
    if query.identifier is not None:
        known = named(desk, query.identifier, kind)
        candidates = [known] if known else []
    for one in candidates:
        vision = one.model.projector is not None
        if query.path in (None, path_of(one.model)) and query.vision in (None, vision):
            return one
    everything = desk.pool.instances
    raise CallError(
        f"No loaded model fits: {query.model_dump_json(exclude_none=True)}",
        suggestion="Load one first.",
        display={
            "code": "generic.noModelMatchingQuery",
            "query": query.model_dump(exclude_none=True, by_alias=True),
            **_loaded_sample(everything),
        },
    )


def not_loaded(desk: Desk, identifier: str) -> CallError:
    """What an unload of nothing gets."""
    return CallError(
        f"Model with instance identifier '{identifier}' is not loaded.",
        display={
            "code": "generic.identifierNotFound",
            "identifier": identifier,
            **_loaded_sample(desk.pool.instances),
        },
    )


def _loaded_sample(instances: Iterable[Instance]) -> Json:
    ids = [one.id for one in instances]
    return {"loadedModelsSample": ids[:_SAMPLE], "totalLoadedModels": len(ids)}


def _not_on_disk(name: str, models: Mapping[str, Model]) -> CallError:
    return CallError(
        f"Model {name} not found in downloaded models",
        display={
            "code": "generic.pathNotFound",
            "path": name,
            "availablePathsSample": list(models)[:_SAMPLE],
            "totalModels": len(models),
        },
    )
