"""What is at the address, in one sentence and a hint."""

import asyncio
import time

from core.errors import DeskError, ProviderNeedsToken, ProviderTimeout, ProviderUnreachable
from core.models import ProviderHealth, ProviderKind, ProviderState
from infrastructure.http import NotHttp
from infrastructure.providers.lmstudio.detect import WrongServer
from infrastructure.providers.lmstudio.listing import list_models
from infrastructure.providers.lmstudio.server import Server

# Somebody is waiting for this on a screen.
HEALTH_SECONDS = 2.5


async def check_health(server: Server, provider: str, kind: ProviderKind) -> ProviderHealth:
    """Found out now, within 2.5 seconds; never raises for what a server does."""
    started = time.monotonic()
    words = server.wording
    hint, latency = "", None
    state: ProviderState
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            models = await list_models(server, provider)
        latency = (time.monotonic() - started) * 1000
        if models:
            state, message = "ready", f"{words.who} is ready with {_many(len(models))}."
        else:
            state, message, hint = "no_models", f"{words.who} has no models.", words.get_model
    except TimeoutError:
        state, hint = "unreachable", words.start
        message = f"{words.who} does not answer at {server.base_url} within {HEALTH_SECONDS} s."
    except DeskError as error:
        state, message, hint = _state(error), error.message, error.hint
    return ProviderHealth(
        provider=provider,
        kind=kind,
        state=state,
        url=server.base_url,
        message=message,
        hint=hint,
        latency_ms=latency,
        flavour=server.flavour,
        checked_at=time.time(),
    )


def _state(error: DeskError) -> ProviderState:
    match error:
        case ProviderUnreachable() | ProviderTimeout():
            return "unreachable"
        case ProviderNeedsToken():
            return "needs_token"
        case WrongServer() | NotHttp():
            return "wrong_server"
        case _:
            return "error"


def _many(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"
