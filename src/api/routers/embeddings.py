"""Texts as vectors."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Response
from pydantic import Field

from api.services import Desk
from core.value import Value

router = APIRouter(prefix="/embeddings", tags=["embeddings"])


class EmbeddingRequest(Value):
    """What to embed."""

    input: str | list[str]
    model_id: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """A loaded embedding model, else the first there is, without it."""


class EmbeddingReply(Value):
    """One vector a text, in their order."""

    model_id: str
    """Full name."""
    dimensions: int
    cached: int
    """How many texts needed no work."""
    input_tokens: int | None
    """Of the others; null where the server does not count."""
    vectors: list[list[float]]


@router.post("", response_model=EmbeddingReply)
@router.post("/", include_in_schema=False)
async def embed(body: EmbeddingRequest, desk: Desk) -> Response:
    """Vectors of up to 2,048 texts. What was embedded before comes from the disk."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    made = await desk.embeddings.embed(texts, body.model_id)
    reply = {
        "model_id": made.model.full_name,
        "dimensions": len(made.vectors[0]),
        "cached": made.cached,
        "input_tokens": made.input_tokens,
        "vectors": made.vectors,
    }
    # Past the usual way, which takes a second for thousands of vectors.
    return Response(orjson.dumps(reply), media_type="application/json")
