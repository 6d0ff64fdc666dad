"""A load over LM Studio's WebSocket: the server's own progress, every option, and a cancel that is kept."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal

from core.errors import (
    DeskError,
    LoadFailed,
    ModelNotFound,
    NotEnoughMemory,
    ProviderNeedsToken,
    ProviderTimeout,
)
from core.models import LoadOptions, LoadProgress, ModelInfo
from infrastructure.providers.estimate import LOAD_SECONDS
from infrastructure.providers.lmstudio import calls
from infrastructure.providers.lmstudio.rungs import Progress, RungMissing
from infrastructure.providers.lmstudio.server import Server
from infrastructure.providers.lmstudio.socket import (
    CallRefused,
    CallSilent,
    CallWarned,
    Channel,
    SocketError,
    SocketLost,
)
from infrastructure.providers.lmstudio.sockets import MethodMissing, Sockets
from infrastructure.providers.problems import problem, quoted

Endpoint = Literal["loadModel", "getOrLoad"]
# Until it says which model it takes the name for.
FIRST_WORD_SECONDS = 10.0
# How long somebody who cancels is kept waiting for the server.
CANCEL_SECONDS = 2.0
Left = Callable[[], Coroutine[Any, Any, object]]


async def through_socket(
    server: Server,
    sockets: Sockets,
    endpoint: Endpoint,
    model: ModelInfo,
    options: LoadOptions,
    *,
    loaded: Callable[[calls.WireLoaded | None], object],
    left: Left,
) -> Progress:
    """Ends when the server says it is loaded, after telling `loaded` which instance that is.

    Closing it cancels the load, waits up to 2 seconds for the server to give up, and unloads what
    came all the same; `left` returns when the server's list no longer shows the model.
    """
    wanted = creation(endpoint, model, options)
    channel = await _opened(server, sockets, endpoint, model, wanted)
    done, highest = False, 0.0
    try:
        try:
            message = await _next(server, sockets, channel, model, options)
        except SocketLost:
            # The connection was dead before, and nobody had noticed.
            channel.forget()
            channel = await _opened(server, sockets, endpoint, model, wanted)
            message = await _next(server, sockets, channel, model, options, again=True)
        while True:
            kind = message.get("type")
            if kind in ("success", "loadSuccess", "alreadyLoaded"):
                done = True
                loaded(calls.instance(message.get("info")))
                yield LoadProgress(fraction=1.0, exact=True)
                return
            if kind in ("progress", "loadProgress"):
                highest = max(highest, _fraction(message.get("progress")))
            yield LoadProgress(fraction=highest, exact=True, stage=_stage(message))
            message = await _next(server, sockets, channel, model, options)
    finally:
        if done or channel.ended:
            channel.forget()
        else:
            await _cancelled(sockets, channel, model, left)


def creation(endpoint: Endpoint, model: ModelInfo, options: LoadOptions) -> dict[str, Any]:
    """What the channel is opened with."""
    ttl = None if options.ttl_seconds is None else options.ttl_seconds * 1000
    name, idle = ("modelKey", "ttlMs") if endpoint == "loadModel" else ("identifier", "loadTtlMs")
    body = {name: model.id, "loadConfigStack": calls.config_stack(model.kind, options)}
    return body if ttl is None else body | {idle: ttl}


async def _opened(
    server: Server, sockets: Sockets, endpoint: Endpoint, model: ModelInfo, wanted: dict[str, Any]
) -> Channel:
    try:
        return await sockets.channel(model.kind, endpoint, wanted)
    except MethodMissing as error:
        raise RungMissing from error
    except CallRefused as error:
        raise _refused(error, server) from error


async def _next(
    server: Server,
    sockets: Sockets,
    channel: Channel,
    model: ModelInfo,
    options: LoadOptions,
    *,
    again: bool = False,
) -> dict[str, Any]:
    """The next message. Raises SocketLost only instead of the first, and not `again`."""
    first = not channel.heard
    try:
        message = await channel.receive(seconds=FIRST_WORD_SECONDS if first else LOAD_SECONDS)
    except CallRefused as error:
        raise _refused(error, server) from error
    except SocketLost as error:
        if first and not again:
            raise
        raise sockets.lost() from error
    except CallSilent as error:
        if first:
            raise _missing(sockets, channel, model, options, error) from error
        raise ProviderTimeout(
            f"{server.wording.who} has said nothing about the load for {LOAD_SECONDS:.0f} seconds."
        ) from error
    except CallWarned as error:
        raise _missing(sockets, channel, model, options, error) from error
    if message is None:
        raise LoadFailed(
            f"{server.wording.who} ended the load without saying how.",
            hint=f"Look at {server.wording.it}'s log.",
        )
    sockets.proven(model.kind, channel.endpoint)
    return message


def _missing(
    sockets: Sockets, channel: Channel, model: ModelInfo, options: LoadOptions, error: SocketError
) -> RungMissing:
    # With options it may have been one of them that was not understood.
    if not calls.config_stack(model.kind, options)["layers"]:
        sockets.miss(model.kind, channel.endpoint, error)
    return RungMissing()


def _refused(error: CallRefused, server: Server) -> DeskError:
    found = problem(error.error, server.wording)
    if isinstance(found, (LoadFailed, NotEnoughMemory, ModelNotFound, ProviderNeedsToken)):
        return found
    said = quoted(error.error.text)
    return LoadFailed(f"{server.wording.who} could not load the model: {said}")


async def _cancelled(sockets: Sockets, channel: Channel, model: ModelInfo, left: Left) -> None:
    """Returns after at most 2 seconds; what is left to do is done later."""
    errand = sockets.errand(_give_up(sockets, channel, model, left))
    await asyncio.wait({errand}, timeout=CANCEL_SECONDS)


async def _give_up(sockets: Sockets, channel: Channel, model: ModelInfo, left: Left) -> None:
    try:
        # A server that does not let go still has the model in its list, where it is seen.
        with suppress(SocketError, MethodMissing, DeskError, TimeoutError):
            await channel.send({"type": "cancel"})
            came = await _outcome(channel)
            if came is not None:
                # The cancel came too late.
                await calls.unload(sockets, model.kind, came.identifier)
            async with asyncio.timeout(CANCEL_SECONDS):
                await left()
    finally:
        channel.forget()


async def _outcome(channel: Channel) -> calls.WireLoaded | None:
    """The instance that came in spite of the cancel, if one did."""
    with suppress(CallRefused):
        while (message := await channel.receive(seconds=LOAD_SECONDS)) is not None:
            if message.get("type") in ("success", "loadSuccess"):
                return calls.instance(message.get("info"))
    return None


def _fraction(value: object) -> float:
    return min(1.0, max(0.0, float(value))) if isinstance(value, int | float) else 0.0


def _stage(message: dict[str, Any]) -> str | None:
    """What a load is at; our own engine says so, LM Studio does not."""
    stage = message.get("stage")
    return stage if isinstance(stage, str) else None
