"""What is at an address, in one sentence and a hint."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from core.errors import DeskError, ProviderNeedsToken, ProviderTimeout, ProviderUnreachable
from core.models import ModelInfo, ProviderHealth, ProviderKind, ProviderState
from infrastructure.http import NotHttp
from infrastructure.providers.problems import WrongServer
from infrastructure.providers.wording import Wording

# Somebody is waiting for this on a screen.
HEALTH_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class Place:
    """Who is looked at."""

    provider: str
    kind: ProviderKind
    url: str
    words: Wording
    seconds: float = HEALTH_SECONDS
    """How long the look may take."""


class NotYet(ProviderUnreachable):
    """The server is there and will be ready soon, as while it loads its only model."""


async def check_health(
    place: Place,
    list_models: Callable[[], Awaitable[Sequence[ModelInfo]]],
    *,
    flavour: Callable[[], str | None] = lambda: None,
) -> ProviderHealth:
    """Found out now, by listing; never raises for what a server does."""
    started = time.monotonic()
    words = place.words
    hint, latency = "", None
    state: ProviderState
    try:
        async with asyncio.timeout(place.seconds):
            models = await list_models()
        latency = (time.monotonic() - started) * 1000
        if models:
            state, message = "ready", f"{words.who} is ready with {many(len(models))}."
        else:
            state, message, hint = "no_models", f"{words.who} has no models.", words.get_model
    except TimeoutError:
        state, hint = "unreachable", words.start
        message = f"{words.who} does not answer at {place.url} within {place.seconds:g} s."
    except DeskError as error:
        state, message, hint = _state(error), error.message, error.hint
    return ProviderHealth(
        provider=place.provider,
        kind=place.kind,
        state=state,
        url=place.url,
        message=message,
        hint=hint,
        latency_ms=latency,
        flavour=flavour(),
        checked_at=time.time(),
    )


def many(count: int) -> str:
    """A number of models in words."""
    return "1 model" if count == 1 else f"{count} models"


def _state(error: DeskError) -> ProviderState:
    match error:
        case NotYet():
            return "starting"
        case ProviderUnreachable() | ProviderTimeout():
            return "unreachable"
        case ProviderNeedsToken():
            return "needs_token"
        case WrongServer() | NotHttp():
            return "wrong_server"
        case _:
            return "error"
