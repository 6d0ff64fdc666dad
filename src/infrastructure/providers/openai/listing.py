"""What /v1/models says of a server's models, in the dialects seen in the wild."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from core.hub import quantization_of
from core.models import Capabilities, ModelInfo, ModelKind
from infrastructure.http import Reply
from infrastructure.providers.problems import WrongServer, reply_problem
from infrastructure.providers.server import HttpServer
from infrastructure.providers.shapes import Nice
from infrastructure.providers.wording import Wording

# Models in such lists that neither answer nor make vectors.
_OTHER = re.compile(
    r"whisper|dall-e|moderation|gpt-image|(^|[-_/])(tts|sora|asr|rerank|reranker|transcribe)([-_.:]|$)"
    r"|-realtime|^(babbage|davinci)-",
    re.IGNORECASE,
)
_EMBEDDING = re.compile(r"embed|(^|[-_/])(bge|e5|gte)[-_]|minilm", re.IGNORECASE)
_OTHER_TYPES = ("image", "audio", "video", "moderation", "rerank", "transcribe")


class WireMeta(BaseModel):
    """What llama-server knows of the file it serves."""

    n_ctx: Nice[int] = None
    n_ctx_train: Nice[int] = None
    n_params: Nice[int] = None
    size: Nice[int] = None
    ftype: Nice[str] = None


class WireArchitecture(BaseModel):
    """What goes in and what comes out."""

    input_modalities: Nice[list[str]] = None
    output_modalities: Nice[list[str]] = None


class WireTopProvider(BaseModel):
    """OpenRouter's best source of a model."""

    context_length: Nice[int] = None
    max_completion_tokens: Nice[int] = None


class WireModel(BaseModel):
    """One entry; everything but the id is a nicety of some server."""

    id: str
    name: Nice[str] = None
    display_name: Nice[str] = None
    description: Nice[str] = None
    owned_by: Nice[str] = None
    type: Nice[str] = None
    max_model_len: Nice[int] = None  # vLLM, SGLang
    context_length: Nice[int] = None  # OpenRouter, Together
    context_window: Nice[int] = None  # Groq
    max_context_length: Nice[int] = None  # Mistral
    max_completion_tokens: Nice[int] = None  # Groq
    top_provider: Nice[WireTopProvider] = None
    architecture: Nice[WireArchitecture] = None
    supported_parameters: Nice[list[str]] = None  # OpenRouter
    capabilities: Nice[dict[str, Any]] = None  # Mistral
    meta: Nice[WireMeta] = None  # llama-server
    root: Nice[str] = None  # vLLM: what a served name stands for


async def list_entries(
    server: HttpServer, words: Wording, *, path: str = "/v1/models"
) -> list[dict[str, Any]]:
    """The list's entries as they came. Raises WrongServer or another ProviderError."""
    reply = await server.get(path)
    entries = entries_of(reply)
    if entries is None:
        raise unlistable(reply, server, words)
    return entries


def entries_of(reply: Reply) -> list[dict[str, Any]] | None:
    """What was listed; None when this is no list. Together sends the bare list."""
    body = reply.body
    found = body.get("data") if isinstance(body, dict) else body
    if not reply.ok or not isinstance(found, list):
        return None
    return [entry for entry in found if isinstance(entry, dict)]


def unlistable(reply: Reply, server: HttpServer, words: Wording) -> Exception:
    """The error for an answer that is no list of models."""
    strange = reply.is_html and reply.status < 500 and reply.status // 100 != 3
    if strange or reply.route_missing or (reply.ok and reply.body is not None):
        what = "A web page answers" if reply.is_html else "Something else answers"
        return WrongServer(
            f"{what} at {server.base_url}, not {words.it}.",
            hint="Correct the address, or configure it as a provider of its own kind.",
        )
    return reply_problem(reply, words)


def models(
    entries: Iterable[dict[str, Any]],
    provider: str,
    read: Callable[[WireModel, str], ModelInfo] | None = None,
) -> list[ModelInfo]:
    """The models in a list, each once; what cannot be read or used is left out."""
    made = read or model
    found = {wire.id: made(wire, provider) for wire in _readable(entries) if _useful(wire)}
    return list(found.values())


def model(wire: WireModel, provider: str) -> ModelInfo:
    """One model of a server that has no loading."""
    meta, top = wire.meta or WireMeta(), wire.top_provider or WireTopProvider()
    contexts = (
        wire.max_model_len,
        wire.context_length,
        wire.context_window,
        wire.max_context_length,
        top.context_length,
        meta.n_ctx or meta.n_ctx_train,
    )
    return ModelInfo(
        id=wire.id,
        provider=provider,
        name=wire.display_name or wire.name or wire.id,
        kind=kind_of(wire),
        size_bytes=meta.size,
        quantization=_file_type(meta.ftype) or quantization_of(wire.id),
        parameters=rounded(meta.n_params),
        context_length=next((length for length in contexts if length), None),
        max_tokens=wire.max_completion_tokens or top.max_completion_tokens,
        publisher=wire.owned_by,
        description=wire.description,
        capabilities=_capabilities(wire),
        loadable=False,
        metadata={"serves": wire.root} if wire.root and wire.root != wire.id else {},
    )


def kind_of(wire: WireModel) -> ModelKind:
    """Whether it answers or makes vectors, by its type where there is one, else by its name."""
    made = (wire.architecture and wire.architecture.output_modalities) or []
    if wire.type == "embedding" or "embeddings" in made:
        return "embedding"
    named = wire.type is None and _EMBEDDING.search(wire.id)
    return "embedding" if named else "llm"


def rounded(parameters: int | None) -> str | None:
    """A number of weights as people say it: `7B`, `135M`."""
    if not parameters:
        return None
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if parameters >= size:
            return f"{parameters / size:.3g}{unit}"
    return f"{parameters / 1000:.3g}K"


def _file_type(text: str | None) -> str | None:
    """llama.cpp's words for a number format, such as `Q4_K - Medium` or `all F32`, as files have it."""
    if not text:
        return None
    first, _, size = text.removeprefix("all ").removeprefix("mostly ").partition(" - ")
    return quantization_of(f"{first}_{size[:1]}" if size else first)


def _readable(entries: Iterable[dict[str, Any]]) -> Iterator[WireModel]:
    for entry in entries:
        try:
            yield WireModel.model_validate(entry)
        except ValidationError:
            continue


def _useful(wire: WireModel) -> bool:
    made = wire.architecture and wire.architecture.output_modalities
    if made:
        return "text" in made or "embeddings" in made
    return wire.type not in _OTHER_TYPES and not _OTHER.search(wire.id)


def _capabilities(wire: WireModel) -> Capabilities:
    taken = wire.architecture and wire.architecture.input_modalities
    can = wire.capabilities or {}
    wanted = wire.supported_parameters
    return Capabilities(
        vision="image" in taken if taken else _flag(can.get("vision")),
        tools="tools" in wanted if wanted else _flag(can.get("function_calling")),
        reasoning="reasoning" in wanted if wanted else _flag(can.get("reasoning")),
    )


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
