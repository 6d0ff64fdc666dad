"""The model lists of the three families, and loading and unloading."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.errors import DeskError, LoadFailed, ModelNotFound, NotEnoughMemory
from infrastructure.engine import selection, wire
from infrastructure.engine.bodies import LoadBody, UnloadBody, checked
from infrastructure.engine.catalogue import Model
from infrastructure.engine.desk import Desk, told
from infrastructure.engine.instance import Instance, LoadWish
from infrastructure.engine.process import ChildProcess
from infrastructure.engine.wire import Handler, Json


def openai_list(desk: Desk) -> Handler:
    """`/v1/models`: what a request may name."""

    async def handle(_: Request) -> Response:
        models = await desk.models() if desk.config.just_in_time else {}
        ids = dict.fromkeys([*models, *(one.id for one in desk.pool.instances)])
        data = [{"id": i, "object": "model", "owned_by": "organization_owner"} for i in ids]
        return wire.reply({"data": data, "object": "list"})

    return handle


def v0_list(desk: Desk) -> Handler:
    """`/api/v0/models`."""

    async def handle(_: Request) -> Response:
        return wire.reply({"data": await _v0_entries(desk), "object": "list"})

    return handle


def v0_one(desk: Desk) -> Handler:
    """`/api/v0/models/{id}`; the id may hold slashes."""

    async def handle(request: Request) -> Response:
        wanted = request.path_params["model_id"]
        for entry in await _v0_entries(desk):
            if entry["id"] == wanted:
                return wire.reply(entry)
        names = await desk.models()
        message = selection.unknown(wanted, names)
        raise wire.openai(message, param="model", code="model_not_found", status=404)

    return handle


def v1_list(desk: Desk) -> Handler:
    """`/api/v1/models`: with what is really loaded."""

    async def handle(_: Request) -> Response:
        models = await desk.models()
        gone = {one.model.key: one.model for one in desk.pool.instances}
        everything = dict(sorted((gone | models).items()))
        return wire.reply(
            {"models": [_v1_entry(m, desk.pool.of_model(m.key)) for m in everything.values()]}
        )

    return handle


def load(desk: Desk) -> Handler:
    """`/api/v1/models/load`: always a new instance; answers when it is there."""

    async def handle(request: Request) -> Response:
        body = checked(LoadBody, await wire.body_of(request, wire.native))
        models = await desk.models()
        model = selection.find(body.model, models)
        if model is None:
            message = f"Model {body.model} not found in downloaded models"
            raise wire.as_native(ModelNotFound(message))
        wish = LoadWish(
            context_length=body.context_length,
            parallel=body.parallel,
            batch=body.eval_batch_size,
            flash_attention=body.flash_attention,
            offload_cache=body.offload_kv_cache_to_gpu,
        )
        if "load-lies" in desk.config.quirks:
            return wire.reply(_lie(model))
        try:
            instance = await wire.unless_gone(request, desk.pool.load(model, wish))
        except (LoadFailed, NotEnoughMemory) as error:
            prefix = f"Failed to load LLM '{model.key}': Error: "
            raise wire.as_native(told(error, prefix)) from None
        answer: Json = {
            "type": _kind(model),
            "instance_id": instance.id,
            "load_time_seconds": round(instance.load_seconds, 3),
            "status": "loaded",
        }
        if body.echo_load_config:
            answer["load_config"] = load_config(instance.child)
        return wire.reply(answer)

    return handle


def unload(desk: Desk) -> Handler:
    """`/api/v1/models/unload`: answers when the memory is back."""

    async def handle(request: Request) -> Response:
        body = checked(UnloadBody, await wire.body_of(request, wire.native))
        try:
            await desk.pool.unload(body.instance_id)
        except DeskError as error:
            raise wire.as_native(error) from None
        return wire.reply({"instance_id": body.instance_id})

    return handle


def _lie(model: Model) -> Json:
    kind = _kind(model)
    return {"type": kind, "instance_id": model.key, "load_time_seconds": 0.5, "status": "loaded"}


def load_config(child: ChildProcess) -> Json:
    """How an instance was really loaded."""
    settings, has_gpu = child.settings, child.has_gpu
    config: Json = {"context_length": settings.context_length}
    if not settings.embedding:
        config |= {
            "eval_batch_size": settings.batch,
            "parallel": settings.parallel,
            "flash_attention": settings.flash_attention is not False,
            "offload_kv_cache_to_gpu": has_gpu and settings.offload_cache,
        }
        for side in ("k", "v"):
            if (kept_as := getattr(settings, f"{side}_cache_type")) != "f16":
                config[f"{side}_cache_quantization_type"] = kept_as
        if has_gpu and settings.gpu_layers is not None:
            config["gpu_layers"] = settings.gpu_layers
    return config


async def _v0_entries(desk: Desk) -> list[Json]:
    """Each model once, and each further instance under its own id."""
    models = {one.model.key: one.model for one in desk.pool.instances} | await desk.models()
    entries = []
    for key, model in sorted(models.items()):
        instances = desk.pool.of_model(key)
        first = desk.pool.get(key)
        state = "loaded" if first else "loading" if desk.pool.is_loading(key) else "not-loaded"
        entries.append(_v0_entry(key, model, state, first))
        entries += [
            _v0_entry(one.id, model, "loaded", one) for one in instances if one is not first
        ]
    return entries


def _v0_entry(entry_id: str, model: Model, state: str, instance: Instance | None) -> Json:
    kind = "embeddings" if model.is_embedding else "vlm" if model.projector else "llm"
    entry: Json = {
        "id": entry_id,
        "object": "model",
        "type": kind,
        "publisher": model.publisher,
        "arch": model.header.architecture,
        "compatibility_type": "gguf",
        "quantization": model.header.quantization or "unknown",
        "state": state,
        "max_context_length": model.header.context_length,
    }
    if instance:
        entry["loaded_context_length"] = instance.context_length
    if model.uses_tools and not model.is_embedding:
        entry["capabilities"] = ["tool_use"]
    return entry


def _v1_entry(model: Model, instances: list[Instance]) -> Json:
    header = model.header
    entry: Json = {
        "type": _kind(model),
        "publisher": model.publisher,
        "key": model.key,
        "display_name": model.name,
    }
    if not model.is_embedding:
        entry["architecture"] = header.architecture
    entry |= {
        "quantization": {
            "name": header.quantization,
            "bits_per_weight": header.bits_per_weight,
        },
        "size_bytes": model.size_bytes,
        "params_string": header.parameters,
        "loaded_instances": [_instance_entry(one) for one in instances],
        "max_context_length": header.context_length,
        "format": "gguf",
    }
    if not model.is_embedding:
        entry["capabilities"] = _capabilities(model)
        damage = f"This file is damaged: {model.damage}." if model.damage else None
        entry["description"] = damage
    return entry


def _instance_entry(one: Instance) -> Json:
    # LM Studio has no `pid`: with it our own desk reads what the model really takes.
    return {"id": one.id, "config": load_config(one.child), "pid": one.child.pid}


def _capabilities(model: Model) -> dict[str, Any]:
    can: dict[str, Any] = {
        "vision": model.projector is not None,
        "trained_for_tool_use": model.uses_tools,
    }
    if model.header.thinks:
        can["reasoning"] = {"allowed_options": ["off", "on"], "default": "on"}
    return can


def _kind(model: Model) -> str:
    return "embedding" if model.is_embedding else "llm"
