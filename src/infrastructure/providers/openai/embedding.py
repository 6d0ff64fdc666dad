"""Vectors over /v1/embeddings."""

from collections.abc import Callable, Sequence
from typing import Any

from core.embedding import Embeddings
from core.errors import DeskError, ProviderProtocolError
from infrastructure.http import Reply
from infrastructure.providers.server import HttpServer

EMBEDDING_SECONDS = 120.0


async def embed(
    server: HttpServer, model_id: str, texts: Sequence[str], *, refuse: Callable[[Reply], DeskError]
) -> Embeddings:
    """One vector a text. Raises what `refuse` makes of a refusal, or ProviderProtocolError."""
    body: dict[str, Any] = {"model": model_id, "input": list(texts), "encoding_format": "float"}
    reply = await server.post("/v1/embeddings", body, seconds=EMBEDDING_SECONDS)
    if not reply.ok or not isinstance(reply.body, dict):
        raise refuse(reply)
    try:
        # Servers may answer in another order than asked.
        entries = sorted(reply.body["data"], key=lambda entry: int(entry["index"]))
        vectors = tuple(tuple(map(float, entry["embedding"])) for entry in entries)
    except (KeyError, TypeError, ValueError) as error:
        raise ProviderProtocolError(f"{server.who} sent vectors that cannot be read.") from error
    if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) > 1:
        raise ProviderProtocolError(
            f"{server.who} sent {len(vectors)} vectors for {len(texts)} texts."
        )
    model, usage = reply.body.get("model"), reply.body.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return Embeddings(
        vectors,
        model if isinstance(model, str) else None,
        tokens if isinstance(tokens, int) else None,
    )
