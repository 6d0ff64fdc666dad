"""The models Ollama has on its disk, those it has in memory, and what it tells of each."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from core.errors import DeskError, ModelNotFound, ProviderProtocolError
from core.models import Capabilities, Instance, ModelInfo
from infrastructure.http import Reply
from infrastructure.providers.ollama.wire import (
    WireDetails,
    WireRunning,
    WireRunnings,
    WireShown,
    WireTag,
    WireTags,
)
from infrastructure.providers.problems import WrongServer, reply_problem
from infrastructure.providers.server import HttpServer
from infrastructure.providers.wording import Wording

# A list is on somebody's screen: what is not told by then is told with the next list.
PATIENCE_SECONDS = 1.0
AT_ONCE = 8
LATEST = ":latest"
_EMBEDDERS = ("bert", "nomic-bert")

Shape = TypeVar("Shape", bound=BaseModel)


class Catalog:
    """Lists, and remembers what cannot change as long as a model's digest does not."""

    def __init__(self, server: HttpServer, words: Wording, provider: str) -> None:
        self._server = server
        self._words = words
        self._provider = provider
        self._shown: dict[tuple[str, str | None], WireShown] = {}
        self._contexts: dict[str, int] = {}

    def context(self, model_id: str) -> int | None:
        """The context the model had in memory when last seen there."""
        return self._contexts.get(model_id)

    def blocks(self, model_id: str) -> int | None:
        """How many layers the model has, if that was told."""
        for (name, _), shown in self._shown.items():
            if name == model_id:
                return shown.number("block_count")
        return None

    async def models(self) -> list[ModelInfo]:
        """Every model. Raises WrongServer or another ProviderError."""
        listed, running = await asyncio.gather(
            self._get("/api/tags", WireTags), self._get("/api/ps", WireRunnings)
        )
        tags = listed.models
        await self._tell(tags)
        models = [self._model(tag, running.models) for tag in tags]
        self._contexts = {
            model.id: instance.context_length
            for model in models
            for instance in model.instances
            if instance.context_length
        }
        return models

    async def find(self, model_id: str) -> ModelInfo:
        """The model of this id; `:latest` may be left out. Raises ModelNotFound or ProviderError."""
        models = await self.models()
        for model in models:
            if model.id in (model_id, model_id + LATEST):
                return model
        close = get_close_matches(model_id, [model.id for model in models], n=5, cutoff=0.4)
        raise ModelNotFound(
            f"{self._words.who} has no model named {model_id!r}.",
            hint=f"Did you mean {close[0]}?" if close else f"Get it with 'ollama pull {model_id}'.",
            candidates=[f"{self._provider}:{name}" for name in close],
        )

    async def _get(self, path: str, shape: type[Shape]) -> Shape:
        reply = await self._server.get(path)
        if not reply.ok:
            raise self._unlistable(reply)
        try:
            return shape.model_validate(reply.body)
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"])
            if isinstance(reply.body, dict) and "models" in reply.body:
                raise ProviderProtocolError(
                    f"{self._words.who}'s list of models has an unknown shape (at '{place}').",
                    hint="It may be newer than LM Desk: look for an update.",
                ) from error
            raise self._wrong("Something else answers") from error

    def _unlistable(self, reply: Reply) -> DeskError:
        if reply.is_html and reply.status < 500 and reply.status // 100 != 3:
            return self._wrong("A web page answers")
        if reply.route_missing:
            return self._wrong("Something else answers")
        return reply_problem(reply, self._words)

    def _wrong(self, what: str) -> WrongServer:
        return WrongServer(
            f"{what} at {self._server.base_url}, not {self._words.it}.",
            hint="Correct the address, or configure it as a provider of its own kind.",
        )

    async def _tell(self, tags: Iterable[WireTag]) -> None:
        """Ask for what is not known yet, a few at a time."""
        keys = {(tag.name, tag.digest) for tag in tags}
        self._shown = {key: shown for key, shown in self._shown.items() if key in keys}
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(key: tuple[str, str | None]) -> None:
            async with gate:
                with suppress(DeskError, ValidationError):
                    reply = await self._server.post(
                        "/api/show", {"model": key[0]}, seconds=PATIENCE_SECONDS
                    )
                    if reply.ok:
                        self._shown[key] = WireShown.model_validate(reply.body)

        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(*(ask(key) for key in keys - self._shown.keys()))

    def _model(self, tag: WireTag, running: Iterable[WireRunning]) -> ModelInfo:
        shown = self._shown.get((tag.name, tag.digest), WireShown())
        details = tag.details or shown.details or WireDetails()
        ours = [each for each in running if _same(each, tag)]
        remote = tag.remote_host is not None
        return ModelInfo(
            id=tag.name,
            provider=self._provider,
            name=tag.name.removesuffix(LATEST),
            kind="embedding" if _embeds(shown, details) else "llm",
            state="loaded" if ours else "not-loaded",
            instances=tuple(
                Instance(id=tag.name, context_length=each.context_length) for each in ours[:1]
            ),
            size_bytes=tag.size or None,
            quantization=details.quantization_level or None,
            parameters=details.parameter_size or None,
            architecture=shown.architecture or details.family or None,
            context_length=shown.number("context_length"),
            format=details.format or None,
            capabilities=_capabilities(shown),
            loadable=not remote,
            metadata=_facts(tag, ours),
        )


def _same(running: WireRunning, tag: WireTag) -> bool:
    named = tag.name in (running.name, running.name + LATEST)
    return named and (not running.digest or not tag.digest or running.digest == tag.digest)


def _embeds(shown: WireShown, details: WireDetails) -> bool:
    if shown.capabilities is not None:
        return "embedding" in shown.capabilities and "completion" not in shown.capabilities
    return (shown.architecture or details.family or "") in _EMBEDDERS


def _capabilities(shown: WireShown) -> Capabilities:
    can = shown.capabilities
    if not can:
        return Capabilities()
    return Capabilities(vision="vision" in can, tools="tools" in can, reasoning="thinking" in can)


def _facts(tag: WireTag, running: list[WireRunning]) -> dict[str, str]:
    facts = {
        "digest": (tag.digest or "").removeprefix("sha256:")[:12],
        "changed": tag.modified_at or "",
        "runs at": tag.remote_host or "",
    }
    for each in running[:1]:
        facts["until"] = each.expires_at or ""
        if each.size and each.size_vram is not None:
            facts["on the GPU"] = f"{min(1.0, each.size_vram / each.size):.0%}"
    return {name: fact for name, fact in facts.items() if fact}
