"""The models of a llama-server: its only one, or those its router can load."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from core.models import Capabilities, Instance, ModelInfo, ModelState
from infrastructure.providers.health import NotYet
from infrastructure.providers.openai.listing import (
    WireArchitecture,
    WireMeta,
    WireModel,
    entries_of,
    model,
    models,
    unlistable,
)
from infrastructure.providers.openai.server import OpenAIServer
from infrastructure.providers.shapes import Nice
from infrastructure.providers.wording import Wording

_STATES: dict[str, ModelState] = {"loaded": "loaded", "loading": "loading"}
_UNAVAILABLE = 503
_EMBEDS = {"--embedding", "--embeddings"}


class WireStatus(BaseModel):
    """How a model of the router is; `failed` speaks of the last load."""

    value: str
    args: Nice[list[str]] = None
    failed: Nice[bool] = None
    exit_code: Nice[int] = None


class WireRouted(WireModel):
    """An entry of a router's list."""

    status: WireStatus


class WireModalities(BaseModel):
    """What a loaded model takes beside text."""

    vision: Nice[bool] = None


class WireTemplate(BaseModel):
    """What the model's own prompt template has a place for."""

    supports_tools: Nice[bool] = None


class WireProps(BaseModel):
    """GET /props of a loaded model."""

    modalities: Nice[WireModalities] = None
    chat_template_caps: Nice[WireTemplate] = None

    def capabilities(self) -> Capabilities:
        """What they come to."""
        return Capabilities(
            vision=self.modalities.vision if self.modalities else None,
            tools=self.chat_template_caps.supports_tools if self.chat_template_caps else None,
        )


async def list_entries(server: OpenAIServer, words: Wording) -> list[dict[str, Any]]:
    """The entries as they came. Raises NotYet, WrongServer or another ProviderError."""
    reply = await server.get("/v1/models")
    entries = entries_of(reply)
    if entries is not None:
        return entries
    if reply.status == _UNAVAILABLE and reply.error and "loading" in reply.error.text.lower():
        raise NotYet(f"{words.who} is still loading its model.", hint="Wait a moment.")
    error = unlistable(reply, server, words)
    raise error


def routes(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether this is a router's list, whose models come and go."""
    return any(isinstance(entry.get("status"), dict) for entry in entries)


def read(
    entries: Sequence[dict[str, Any]], provider: str, known: Mapping[str, Capabilities]
) -> list[ModelInfo]:
    """The models, with what is `known` of those that were looked at while loaded."""
    listed = models(entries, provider, _read)
    routed = {entry.get("id"): entry for entry in entries if routes([entry])}
    return [
        _routed(each, routed[each.id], known) if each.id in routed else _single(each, known)
        for each in listed
    ]


def failure(entries: Sequence[Mapping[str, Any]], model_id: str) -> int | None:
    """The exit code of the model's last load if that failed."""
    for entry in entries:
        if entry.get("id") == model_id and routes([entry]):
            status = WireRouted.model_validate(entry).status
            return (status.exit_code or 1) if status.failed else None
    return None


def _read(wire: WireModel, provider: str) -> ModelInfo:
    meta = wire.meta or WireMeta()
    info = model(wire, provider)
    return info.model_copy(
        update={
            "name": wire.id.replace("\\", "/").rpartition("/")[2].removesuffix(".gguf"),
            "format": "gguf",
            "context_length": meta.n_ctx_train,
            "publisher": None,
            "state": "loaded",
            "instances": (Instance(id=wire.id, context_length=meta.n_ctx),),
        }
    )


def _single(info: ModelInfo, known: Mapping[str, Capabilities]) -> ModelInfo:
    return info.model_copy(update={"capabilities": known.get(info.id, info.capabilities)})


def _routed(
    info: ModelInfo, entry: Mapping[str, Any], known: Mapping[str, Capabilities]
) -> ModelInfo:
    wire = WireRouted.model_validate(entry)
    state = _STATES.get(wire.status.value, "not-loaded")
    taken = (wire.architecture or WireArchitecture()).input_modalities or []
    seen = Capabilities(vision=True if "image" in taken else None)
    embeds = _EMBEDS & set(wire.status.args or ())
    return info.model_copy(
        update={
            "kind": "embedding" if embeds else info.kind,
            "state": state,
            "instances": info.instances if state == "loaded" else (),
            "capabilities": known.get(info.id, seen),
            # Asleep: its next request wakes it, and the router has no other way to.
            "loadable": wire.status.value != "sleeping",
        }
    )
