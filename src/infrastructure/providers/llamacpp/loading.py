"""Loads and unloads by llama-server's router, where only a re-read of its list counts as done."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any

from core.errors import (
    BadParameter,
    DeskError,
    LoadFailed,
    LoadUnproven,
    NotLoadable,
    ProviderTimeout,
    ProviderUnreachable,
    UnloadUnproven,
)
from core.models import Instance, Loaded, LoadEvent, LoadOptions, LoadProgress, ModelInfo
from infrastructure.http import Reply
from infrastructure.providers.estimate import LOAD_SECONDS, LoadEstimates
from infrastructure.providers.llamacpp.events import LoadEvents
from infrastructure.providers.openai.server import OpenAIServer
from infrastructure.providers.problems import reply_problem
from infrastructure.providers.wording import Wording

# How long a list may lag behind what the server has just said.
SHOW_SECONDS = 3.0
LEAVE_SECONDS = 15.0
LOOK_SECONDS = 0.1
POLL_SECONDS = 0.5
# Looks in a row that may fail, as while the machine is busy with the load.
FAILED_LOOKS = 8

Find = Callable[[str], Awaitable[ModelInfo]]
Failure = Callable[[str], Awaitable[int | None]]


class RouterLoading:
    """Loads and unloads on one router."""

    def __init__(self, server: OpenAIServer, words: Wording, find: Find, failure: Failure) -> None:
        """`find` reads the list anew; `failure` is the exit code of a model's last load, if bad."""
        self._server = server
        self._words = words
        self._find = find
        self._failure = failure
        self._estimates = LoadEstimates()
        self._locks: dict[str, asyncio.Lock] = {}
        self._givings_up: set[asyncio.Task[None]] = set()

    async def load(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        """See `core.ports.ModelLoader.load_model`. A loaded model is reported as it is."""
        await self._find(model_id)  # before the lock, so that unknown names leave none behind
        async with self._locks.setdefault(model_id, asyncio.Lock()):
            model = await self._find(model_id)
            if model.instances:
                yield Loaded(instance=model.instances[0], seconds=0.0)
                return
            self._refuse(model, options)
            started = time.monotonic()
            async with aclosing(self._bring(model)) as events:
                async for event in events:
                    yield event
            instance = await self._shown(model_id)
            if instance is None:
                raise LoadUnproven(
                    f"{self._words.who} says {model_id} is loaded, but its list does not show it.",
                    hint=f"Look at {self._words.it}'s log, and try again.",
                )
            seconds = time.monotonic() - started
            self._estimates.learn(model, seconds=seconds)
            yield Loaded(instance=instance, seconds=seconds)

    async def unload(self, model_id: str) -> None:
        """See `core.ports.ModelLoader.unload_instance`. One that is gone already is as well."""
        model = await self._find(model_id)
        if model.state == "not-loaded":
            return
        if not model.loadable:
            raise self._not_loadable()
        reply = await self._post("unload", model_id)
        refusal = None if reply.ok else reply_problem(reply, self._words)
        if await self._left(model_id, patience=0.0 if refusal else LEAVE_SECONDS):
            return
        raise refusal or UnloadUnproven(
            f"{self._words.who} accepted the unload of {model_id}, but still lists it.",
            hint=f"Look at {self._words.it}'s log, or restart it.",
        )

    async def aclose(self) -> None:
        """End what is still being given up."""
        for task in self._givings_up:
            task.cancel()
        await asyncio.gather(*self._givings_up, return_exceptions=True)

    async def _bring(self, model: ModelInfo) -> AsyncGenerator[LoadProgress]:
        """The progress of a load until the server says it is there; if closed, the load is ended."""
        events = LoadEvents(self._server, model.id)
        ours = False
        try:
            await events.open()
            if model.state != "loading":  # else somebody else began: only watch
                ours = True  # from the moment it is sent: who gives up may never see the answer
                reply = await self._post("load", model.id)
                ours = reply.ok
                if not reply.ok and not _running(reply):
                    raise reply_problem(reply, self._words)
            async with aclosing(self._follow(model, events)) as progress:
                async for each in progress:
                    yield each
            ours = False
        except LoadFailed:
            ours = False
            raise
        finally:
            events.close()
            if ours:
                await self._give_up(model.id)

    async def _follow(self, model: ModelInfo, events: LoadEvents) -> AsyncGenerator[LoadProgress]:
        started, highest, exact, failed = time.monotonic(), 0.0, False, 0
        while (elapsed := time.monotonic() - started) < LOAD_SECONDS:
            said = await events.next(seconds=POLL_SECONDS)
            for progress in (each.progress for each in said if each.progress):
                exact, highest = True, max(highest, progress.fraction)
                yield progress.model_copy(update={"fraction": highest})
            if not exact:
                fraction = self._estimates.fraction(model, elapsed=elapsed)
                yield LoadProgress(fraction=fraction, exact=False)
            if said and said[-1].state == "loading":
                continue
            try:
                state = (await self._find(model.id)).state
            except (ProviderTimeout, ProviderUnreachable):
                failed += 1  # a machine that loads may be too busy to answer
                if failed >= FAILED_LOOKS:
                    raise
                continue
            failed = 0
            if state == "loaded":
                return
            if state == "not-loaded":
                raise await self._failed(model.id)
        raise ProviderTimeout(f"{model.id} was not loaded after {LOAD_SECONDS:.0f} seconds.")

    async def _failed(self, model_id: str) -> LoadFailed:
        code = await self._failure(model_id)
        if code is None:
            return LoadFailed(f"{model_id} was unloaded again before it was there.")
        return LoadFailed(
            f"{self._words.who} could not load {model_id}: its process ended with code {code}.",
            hint=f"The reason is in {self._words.it}'s log: often memory, or a damaged file.",
        )

    async def _shown(self, model_id: str) -> Instance | None:
        deadline = time.monotonic() + SHOW_SECONDS
        while True:
            instances: Sequence[Instance] = (await self._find(model_id)).instances
            if instances:
                return instances[0]
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(LOOK_SECONDS)

    async def _left(self, model_id: str, *, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while (await self._find(model_id)).state != "not-loaded":
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    async def _give_up(self, model_id: str) -> None:
        """End a load nobody waits for any more. Runs on if the waiting is broken off, too."""
        task = asyncio.create_task(self._end(model_id))
        self._givings_up.add(task)
        task.add_done_callback(self._givings_up.discard)
        await asyncio.shield(task)

    async def _end(self, model_id: str) -> None:
        with suppress(DeskError):
            await self._post("unload", model_id)
            await self._left(model_id, patience=LEAVE_SECONDS)

    async def _post(self, verb: str, model_id: str) -> Reply:
        body: dict[str, Any] = {"model": model_id}
        return await self._server.post(f"/models/{verb}", body, seconds=self._server.seconds)

    def _refuse(self, model: ModelInfo, options: LoadOptions) -> None:
        if not model.loadable:
            raise self._not_loadable()
        if asked := sorted(options.model_dump(exclude_none=True)):
            named = ", ".join(name.replace("_", " ") for name in asked)
            raise BadParameter(
                f"{self._words.who} loads with its own settings and does not take {named}.",
                hint="Load without, or set it in the router's presets (--models-preset).",
            )

    def _not_loadable(self) -> NotLoadable:
        return NotLoadable(
            f"{self._words.who} serves one model and cannot load or unload any.",
            hint="Start llama-server without a model, with --models-dir, to make it a router.",
        )


def _running(reply: Reply) -> bool:
    """Somebody was faster."""
    return reply.error is not None and "already" in reply.error.text.lower()
