"""Texts as vectors."""

from typing import NamedTuple

Vector = tuple[float, ...]


class Embeddings(NamedTuple):
    """What an embedding model makes of some texts."""

    vectors: tuple[tuple[float, ...], ...]
    """One a text, in their order; all of one length."""
    model_id: str | None
    """What the server says answered."""
    input_tokens: int | None = None
