"""The models of a server, from whichever of its lists is the best."""

import re
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from core.errors import DeskError, ProviderProtocolError
from core.models import Capabilities, Instance, ModelInfo, ModelState
from infrastructure.providers.lmstudio.detect import detect
from infrastructure.providers.lmstudio.server import Flavour, Server
from infrastructure.providers.lmstudio.wire import (
    WireListOpenAI,
    WireListV0,
    WireListV1,
    WireModelOpenAI,
    WireModelV0,
    WireModelV1,
)
from infrastructure.providers.problems import reply_problem

_SHAPES: dict[Flavour, type[BaseModel]] = {
    "api/v1": WireListV1,
    "api/v0": WireListV0,
    "v1": WireListOpenAI,
}
_EXTRA_INSTANCE = re.compile(r"(.+):\d+")


async def list_models(server: Server, provider: str) -> list[ModelInfo]:
    """Every model, under the provider's configured name. Raises ProviderError."""
    remembered = server.flavour is not None
    try:
        return await _list(server, provider)
    except ProviderProtocolError:
        if not remembered:
            raise
    server.forget()
    return await _list(server, provider)


async def _list(server: Server, provider: str) -> list[ModelInfo]:
    flavour = await detect(server)
    reply = await server.get(f"/{flavour}/models")
    if not reply.ok:
        raise _problem(server, reply_problem(reply, server.wording), missing=reply.route_missing)
    try:
        listed = _SHAPES[flavour].model_validate(reply.body)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ProviderProtocolError(
            f"{server.wording.who}'s list of models has an unknown shape (at '{place}').",
            hint="It may be newer than LM Desk: look for an update.",
        ) from error
    match listed:
        case WireListV1():
            return from_v1(listed.models, provider, ours=server.ours)
        case WireListV0():
            return from_v0(listed.data, provider)
        case WireListOpenAI():
            return from_openai(listed.data, provider)
        case _:
            raise AssertionError(flavour)


def _problem(server: Server, found: DeskError, *, missing: bool) -> DeskError:
    if not missing:
        return found
    return ProviderProtocolError(f"{server.wording.who} no longer has its list of models.")


def from_v1(
    entries: Sequence[WireModelV1], provider: str, *, ours: bool = False
) -> list[ModelInfo]:
    """From GET /api/v1/models; kinds of models we have no use for are left out.

    Processes are believed of `ours` alone: those of another machine have other numbers.
    """
    kinds = ("llm", "vlm", "embedding")
    return [_from_v1(e, provider, ours=ours) for e in entries if e.type in kinds]


def _from_v1(entry: WireModelV1, provider: str, *, ours: bool) -> ModelInfo:
    can = entry.capabilities
    return ModelInfo(
        id=entry.key,
        provider=provider,
        name=entry.display_name or entry.key,
        kind="embedding" if entry.type == "embedding" else "llm",
        state="loaded" if entry.loaded_instances else "not-loaded",
        instances=tuple(
            Instance(
                id=i.id,
                context_length=i.config.context_length if i.config else None,
                pid=i.pid if ours else None,
            )
            for i in entry.loaded_instances
        ),
        size_bytes=entry.size_bytes,
        quantization=entry.quantization.name if entry.quantization else None,
        parameters=entry.params_string,
        architecture=entry.architecture,
        context_length=entry.max_context_length,
        format=entry.format,
        publisher=entry.publisher,
        description=entry.description,
        capabilities=Capabilities()
        if can is None
        else Capabilities(
            vision=can.vision,
            tools=can.trained_for_tool_use,
            # Its absence says nothing: older builds do not report it.
            reasoning=True if can.reasoning else None,
        ),
    )


def from_v0(entries: Sequence[WireModelV0], provider: str) -> list[ModelInfo]:
    """From GET /api/v0/models, where further instances (`key:2`) are entries of their own."""
    ids = {entry.id for entry in entries}
    families: dict[str, list[WireModelV0]] = {}
    for entry in entries:
        if entry.type in ("llm", "vlm", "embeddings", "embedding"):
            families.setdefault(_owner(entry.id, ids), []).append(entry)
    return [_from_v0(key, family, provider) for key, family in families.items()]


def _from_v0(key: str, family: list[WireModelV0], provider: str) -> ModelInfo:
    entry = next((e for e in family if e.id == key), family[0])
    instances = tuple(
        Instance(id=e.id, context_length=e.loaded_context_length)
        for e in family
        if e.state == "loaded"
    )
    loading = any(e.state == "loading" for e in family)
    state: ModelState = "loaded" if instances else "loading" if loading else "not-loaded"
    return ModelInfo(
        id=key,
        provider=provider,
        name=key,
        kind="embedding" if entry.type.startswith("embedding") else "llm",
        state=state,
        instances=instances,
        quantization=entry.quantization,
        architecture=entry.arch,
        context_length=entry.max_context_length,
        format=entry.compatibility_type,
        publisher=entry.publisher,
        capabilities=Capabilities(
            vision=entry.type == "vlm",
            tools=None if entry.capabilities is None else "tool_use" in entry.capabilities,
        ),
    )


def from_openai(entries: Sequence[WireModelOpenAI], provider: str) -> list[ModelInfo]:
    """From GET /v1/models, which says neither what is loaded nor how large anything is."""
    ids = {entry.id for entry in entries}
    families: dict[str, list[Instance]] = {}
    for entry in entries:
        owner = _owner(entry.id, ids)
        extra = families.setdefault(owner, [])
        if owner != entry.id:
            extra.append(Instance(id=entry.id))
    return [
        ModelInfo(
            id=key,
            provider=provider,
            name=key,
            kind="embedding" if key.startswith("text-embedding-") else "llm",
            state="loaded" if extra else "not-loaded",
            instances=tuple(extra),
            loadable=False,
        )
        for key, extra in families.items()
    ]


def _owner(entry_id: str, ids: set[str]) -> str:
    """The model an entry belongs to: itself, or the listed one it is a further instance of."""
    extra = _EXTRA_INSTANCE.fullmatch(entry_id)
    return extra[1] if extra and extra[1] in ids else entry_id
