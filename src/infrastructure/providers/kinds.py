"""Every kind of provider we can talk to. A new kind is its own folder and one line here."""

from collections.abc import Callable, Mapping

from core.errors import BadParameter
from core.models import ProviderKind
from core.ports import Provider
from core.providers import ProviderConfig
from infrastructure.providers.huggingface.provider import HuggingFaceProvider
from infrastructure.providers.llamacpp.provider import LlamaServerProvider
from infrastructure.providers.lmstudio import LMStudioProvider
from infrastructure.providers.ollama.provider import OllamaProvider
from infrastructure.providers.openai.provider import OpenAIProvider

Build = Callable[[ProviderConfig], Provider]


def _lmstudio(config: ProviderConfig) -> LMStudioProvider:
    return LMStudioProvider(
        config.name, config.base_url, token=config.token, seconds=config.timeout_seconds
    )


# Our own engine is not here: it is started, not configured.
KINDS: Mapping[ProviderKind, Build] = {
    "lmstudio": _lmstudio,
    "ollama": OllamaProvider,
    "llamacpp": LlamaServerProvider,
    "openai": OpenAIProvider,
    "huggingface": HuggingFaceProvider,
}


def build(config: ProviderConfig) -> Provider:
    """The provider that is configured; nothing is connected yet.

    Raises BadParameter for a kind that cannot be configured, or an unusable address or token.
    """
    make = KINDS.get(config.kind)
    if make is None:
        raise BadParameter(
            f"A provider of the kind {config.kind!r} cannot be configured.",
            hint=f"There are: {', '.join(KINDS)}.",
        )
    return make(config)
