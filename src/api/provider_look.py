"""What is at an address: asked once, with a provider that is made for it and closed again."""

import asyncio

from core.configured import ProviderLook
from core.diagnosis import diagnosed
from core.errors import DeskError
from core.models import ModelInfo
from core.ports import Provider

LIST_SECONDS = 6.0
NAMES_SHOWN = 20


async def looked_at(provider: Provider, *, remote: bool) -> ProviderLook:
    """Its state and its models. The provider is closed; never raises for what a server does."""
    try:
        diagnosis, models = await asyncio.gather(diagnosed(provider), _models(provider))
    finally:
        await provider.aclose()
    names = None if models is None else tuple(model.id for model in models)
    return ProviderLook(
        diagnosis=diagnosis,
        model_count=None if names is None else len(names),
        models=(names or ())[:NAMES_SHOWN],
        remote=remote,
    )


async def _models(provider: Provider) -> list[ModelInfo] | None:
    try:
        async with asyncio.timeout(LIST_SECONDS):
            return await provider.list_models()
    except (DeskError, TimeoutError):
        return None  # the diagnosis says what is the matter
