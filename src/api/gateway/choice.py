"""Which models may answer a request, best first, and how to say why."""

from collections.abc import AsyncGenerator
from typing import NamedTuple

from api.gateway.need import need_of
from api.gateway.request import Call
from api.services import Services
from core.errors import BadParameter, ModelNotFound, ProviderError
from core.models import ModelInfo
from core.preferences import AUTO

EMBEDDINGS = "/v1/embeddings"


class Choice(NamedTuple):
    """One model that may answer."""

    model: ModelInfo
    route: str
    """What `x-lmdesk-route` says when this one does: `asked`, `auto:task` or `fallback:first`."""


async def choices(desk: Services, call: Call) -> AsyncGenerator[Choice]:
    """Those that may answer: whoever cannot use one takes the next.

    Raises ModelNotFound, ModelAmbiguous, BadParameter, NoModelFits, or what keeps the only
    provider from answering.
    """
    asked = call.model.strip()
    automatic = asked.casefold() == AUTO
    if call.path == EMBEDDINGS:
        # Vectors of two models have nothing in common: for one that was named no other takes over.
        if not automatic:
            yield Choice(await desk.library.resolve(asked), "asked")
            return
        for model in await _embedders(desk):
            yield Choice(model, "auto:embedding")
        return
    first: str | None = None
    if not automatic:
        try:
            model = _writer(await desk.library.resolve(asked))
        except ProviderError:
            first = asked  # the router knows who may answer instead, if anybody
        else:
            first = model.full_name
            yield Choice(model, "asked")
    route = await desk.router.route(asked, need_of(call.body))
    for candidate in route.candidates:
        if candidate.model_id == first:
            continue
        yield Choice(
            candidate.model, f"auto:{route.task}" if first is None else f"fallback:{first}"
        )
        first = first or candidate.model_id


def _writer(model: ModelInfo) -> ModelInfo:
    if model.kind == "embedding":
        raise BadParameter(
            f"{model.full_name} makes embeddings; it cannot write.",
            hint=f"Use it at {EMBEDDINGS}, or ask a language model.",
        )
    return model


async def _embedders(desk: Services) -> list[ModelInfo]:
    """Those in memory first; none of somebody else's computer. Raises ModelNotFound."""
    there = [
        model
        for model in await desk.library.models()
        if model.kind == "embedding"
        and model.stale_since is None
        and not desk.library.config(model.provider).remote
    ]
    if not there:
        raise ModelNotFound(
            "There is no embedding model.", hint="Name one of a provider that serves one."
        )
    return sorted(there, key=lambda model: not model.loaded)
