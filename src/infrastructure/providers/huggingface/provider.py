"""Hugging Face Inference: other people's computers behind one router."""

from typing import Any

from pydantic import BaseModel, ValidationError

from core.errors import (
    ProviderError,
    ProviderNeedsToken,
    ProviderTimeout,
    ProviderUnreachable,
)
from core.models import ModelInfo, ProviderHealth
from core.providers import ProviderConfig
from infrastructure.providers.health import check_health, many
from infrastructure.providers.huggingface.curated import curated
from infrastructure.providers.openai.listing import list_entries, models
from infrastructure.providers.openai.provider import SpeaksOpenAI
from infrastructure.providers.shapes import Nice
from infrastructure.providers.wording import Wording, named

TOKENS = "https://huggingface.co/settings/tokens"
WORDS = Wording(
    who="Hugging Face",
    it="Hugging Face",
    start="Check the connection to the internet.",
    get_model="Look at its status page.",
    token=f"Create a token with the permission to call inference providers at {TOKENS}.",
    permit=f"Give the token the permission to call inference providers at {TOKENS}.",
)
_LIVE = (None, "live")


class WireSource(BaseModel):
    """One of those who run a model."""

    provider: str
    status: Nice[str] = None
    context_length: Nice[int] = None
    supports_tools: Nice[bool] = None


class WireRun(BaseModel):
    """What an entry of the list has beyond OpenAI's."""

    providers: list[WireSource] = []


class HuggingFaceProvider(SpeaksOpenAI):
    """A Provider and Forwarder; it neither loads nor makes vectors.

    Where the router answers but its list cannot be read, well-known models are listed instead.
    """

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config, named(WORDS, config.name, usual="huggingface"))
        self._unlisted: ProviderError | None = None
        self._listed = 0

    async def health(self) -> ProviderHealth:
        health = await check_health(self._place(), self._look)
        if health.state != "ready":
            return health
        who = self._words.who
        if self._unlisted is not None:
            message = f"{who}'s list of models cannot be read: {self._unlisted.message}"
            hint = "Models known to LM Desk are offered instead; some may not be served."
            return health.model_copy(update={"state": "error", "message": message, "hint": hint})
        if self._server.token is None:
            message = f"{who} lists {many(self._listed)}, and answers only with a token."
            changed = {"state": "needs_token", "message": message, "hint": self._words.token}
            return health.model_copy(update=changed)
        return health

    async def list_models(self) -> list[ModelInfo]:
        """Raises ProviderUnreachable, ProviderTimeout or ProviderNeedsToken; else there is a list."""
        try:
            entries = await list_entries(self._server, self._words)
        except (ProviderUnreachable, ProviderTimeout, ProviderNeedsToken):
            raise
        except ProviderError as error:
            self._unlisted = error
            return curated(self.name)
        self._unlisted = None
        runs = {entry.get("id"): _sources(entry) for entry in entries}
        listed = models(entries, self.name)
        running = [_completed(each, runs[each.id]) for each in listed if _runs(runs[each.id])]
        self._listed = len(running)
        return running


def _sources(entry: dict[str, Any]) -> list[WireSource] | None:
    """Who runs it; None when the list does not say."""
    try:
        return WireRun.model_validate(entry).providers if "providers" in entry else None
    except ValidationError:
        return None


def _runs(sources: list[WireSource] | None) -> bool:
    return sources is None or any(source.status in _LIVE for source in sources)


def _completed(model: ModelInfo, sources: list[WireSource] | None) -> ModelInfo:
    """With what those who run it say; the router picks one, so the least of them counts."""
    live = [source for source in sources or () if source.status in _LIVE]
    contexts = [source.context_length for source in live if source.context_length]
    tools = [source.supports_tools for source in live if source.supports_tools is not None]
    owner, _, name = model.id.rpartition("/")
    can = model.capabilities
    return model.model_copy(
        update={
            "name": name,
            "publisher": owner or model.publisher,
            "context_length": min(contexts, default=model.context_length),
            "capabilities": can.model_copy(update={"tools": _agreed(tools, can.tools)}),
            "metadata": {"run by": ", ".join(source.provider for source in live)} if live else {},
        }
    )


def _agreed(answers: list[bool], otherwise: bool | None) -> bool | None:
    """What all say; None where some can and others cannot."""
    if not answers:
        return otherwise
    return answers[0] if len(set(answers)) == 1 else None
