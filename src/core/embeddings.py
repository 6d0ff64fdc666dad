"""EmbeddingService: texts as vectors, from the cache or from the model that makes them."""

import logging
from array import array
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from core.embedding import Vector
from core.errors import (
    BadParameter,
    DeskError,
    ModelUnloaded,
    NoEmbeddingModel,
    ProviderProtocolError,
    StorageError,
)
from core.jobs import Job, JobService
from core.library import ModelLibrary
from core.models import ModelInfo, ProviderKind
from core.ports import Embedder, VectorCache

log = logging.getLogger(__name__)

MAX_TEXTS = 2048
MAX_TEXT_CHARS = 100_000
MAX_CHARS = 4_000_000
# What one request to a provider carries at most: enough to keep it busy, little enough to stop.
BATCH_TEXTS = 64
BATCH_CHARS = 200_000
# Their lists tell models of vectors from others; elsewhere only the server itself knows.
TELLING_KINDS: frozenset[ProviderKind] = frozenset({"lmstudio", "embedded"})


class Embedded(NamedTuple):
    """Some texts as vectors."""

    model: ModelInfo
    vectors: tuple[Vector, ...]
    """One a text, in their order; all of one length."""
    cached: int
    """How many texts needed no work."""
    input_tokens: int | None
    """Of the others; None where the server does not count."""


class _Made(NamedTuple):
    vectors: dict[bytes, Vector]
    input_tokens: int | None


class EmbeddingService:
    """Makes vectors through leases, so that no model is taken out from under the work."""

    def __init__(
        self, library: ModelLibrary, jobs: JobService, cache: VectorCache | None = None
    ) -> None:
        self._library = library
        self._jobs = jobs
        self._cache = cache

    async def embed(self, texts: Sequence[str], model_name: str | None = None) -> Embedded:
        """Vectors of these texts, by this model (full or bare name) or by the usual one.

        Raises BadParameter, NoEmbeddingModel, ModelNotFound or what keeps the provider from it.
        """
        _check(texts)
        model = await self.choose(model_name)
        keys = [_key(model, text) for text in texts]
        known = await self._known(keys)
        wanted = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        tokens: int | None = 0
        if wanted:
            made = await self._make(model, wanted)
            await self._keep(made.vectors)
            known |= made.vectors
            tokens = made.input_tokens
        vectors = tuple(known[key] for key in keys)
        if len({len(vector) for vector in vectors}) > 1:
            raise ProviderProtocolError(f"{model.name} made vectors of different lengths.")
        return Embedded(model, vectors, sum(key not in wanted for key in keys), tokens)

    async def choose(self, name: str | None = None) -> ModelInfo:
        """The model of this name; else a loaded embedding model, else the first there is here.

        What is on somebody else's computer is never chosen by itself. Raises NoEmbeddingModel,
        ModelNotFound, BadParameter for a model that makes no vectors.
        """
        if name is not None:
            model = await self._library.resolve(name)
            return self._able(model)
        found = await self._here()
        ready = [model for model in found if model.loaded or not model.loadable]
        if not found:
            raise NoEmbeddingModel(
                "There is no model here that makes vectors.",
                hint="Get one, such as nomic-embed-text, or name a model of a remote provider.",
            )
        return (ready or found)[0]

    async def ready(self) -> ModelInfo | None:
        """An embedding model here that works without being loaded first; None if there is none."""
        found = await self._here()
        return next((model for model in found if model.loaded or not model.loadable), None)

    async def _here(self) -> list[ModelInfo]:
        """Those whose readings stay on the person's own machines."""
        return [
            model
            for model in await self._library.models()
            if model.kind == "embedding"
            and model.stale_since is None
            and not self._library.config(model.provider).remote
            and isinstance(self._library.provider(model.provider), Embedder)
        ]

    async def now(self, model: ModelInfo, texts: Sequence[str]) -> tuple[Vector, ...]:
        """Vectors of these few texts, past the cache; the model is neither loaded nor kept for it.

        Raises ModelUnloaded if it is not in memory any more, or what the provider says.
        """
        wanted = {str(place).encode(): text for place, text in enumerate(texts)}
        made = await self._make(model, wanted, yields=True)
        return tuple(made.vectors[key] for key in wanted)

    def _able(self, model: ModelInfo) -> ModelInfo:
        provider = self._library.provider(model.provider)
        told = provider.kind in TELLING_KINDS
        if not isinstance(provider, Embedder) or (told and model.kind != "embedding"):
            raise BadParameter(
                f"{model.name} makes no vectors.",
                hint="Name an embedding model, or leave the model out.",
            )
        return model

    async def _make(
        self, model: ModelInfo, wanted: Mapping[bytes, str], *, yields: bool = False
    ) -> _Made:
        provider = self._library.provider(model.provider)
        assert isinstance(provider, Embedder)
        job = Job("request", model_id=model.full_name)
        vectors: dict[bytes, Vector] = {}
        tokens: int | None = 0
        with self._jobs.attend(job):
            async with self._library.lease(model, job, yields=yields) as lease:
                for batch in _batches(wanted):
                    async with self._library.gate(model.provider).passage():
                        made = await provider.embed(lease.instance.id, list(batch.values()))
                    for key, vector in zip(batch, made.vectors, strict=True):
                        # As it is kept, so that it is the same whether it comes from the cache.
                        vectors[key] = tuple(array("f", vector))
                    known = tokens is not None and made.input_tokens is not None
                    tokens = (tokens or 0) + (made.input_tokens or 0) if known else None
        if len(vectors) < len(wanted):
            raise ModelUnloaded(
                f"{model.name} was taken away while it was making vectors.", hint="Try again."
            )
        return _Made(vectors, tokens)

    async def _known(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        if self._cache is None:
            return {}
        try:
            return await self._cache.vectors(keys)
        except StorageError as error:
            log.warning("vectors could not be read: %s", error.message)
            return {}

    async def _keep(self, vectors: Mapping[bytes, Vector]) -> None:
        if self._cache is None:
            return
        try:
            await self._cache.keep_vectors(vectors)
        except StorageError as error:
            log.warning("vectors could not be kept: %s", error.message)


def refused(error: DeskError) -> bool:
    """Whether the provider minded the texts themselves: another try with them ends the same way."""
    return error.code in ("provider_rejected", "context_too_long", "provider_protocol")


def _check(texts: Sequence[str]) -> None:
    if not texts:
        raise BadParameter("There is no text to make vectors of.", hint="Give at least one.")
    if len(texts) > MAX_TEXTS:
        raise BadParameter(
            f"{len(texts):,} texts are too many; at most {MAX_TEXTS:,} can be sent at a time.",
            hint="Send them in parts.",
        )
    for place, text in enumerate(texts):
        if not text.strip():
            raise BadParameter(f"Text {place} is empty.", hint="Leave empty texts out.")
        if len(text) > MAX_TEXT_CHARS:
            raise BadParameter(
                f"Text {place} has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} can be sent.",
                hint="Cut it into pieces and embed each.",
            )
    if (total := sum(map(len, texts))) > MAX_CHARS:
        raise BadParameter(
            f"The texts have {total:,} characters; at most {MAX_CHARS:,} can be sent at a time.",
            hint="Send them in parts.",
        )


def _batches(wanted: Mapping[bytes, str]) -> Iterator[dict[bytes, str]]:
    batch: dict[bytes, str] = {}
    size = 0
    for key, text in wanted.items():
        if batch and (len(batch) == BATCH_TEXTS or size + len(text) > BATCH_CHARS):
            yield batch
            batch, size = {}, 0
        batch[key] = text
        size += len(text)
    if batch:
        yield batch


def _key(model: ModelInfo, text: str) -> bytes:
    """What a vector is kept under: the same text under another file of the model is another."""
    mark = f"{model.full_name}\n{model.quantization}\n{model.size_bytes}\n"
    return blake2b(mark.encode() + text.encode("utf-8", "surrogatepass"), digest_size=20).digest()
