"""What it costs to look a model up: from the cache, and the first time beside a provider that is dead.

    python -m benchmarks.model_lookup

Real sockets and the real adapter; the lists come from a scripted LM Studio in a process of its own.
"""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from benchmarks import machine, processes
from core.jobs import JobService
from core.library import ModelLibrary
from core.router import Router
from core.routing import Need
from core.tasks import guess_task
from infrastructure.providers.lmstudio import LMStudioProvider
from tests.sockets import free_port

MODELS = 500
LOOKUPS = 2000
FIRST_LOOKS = 15
CACHED_TARGET_MS = 0.1
FIRST_TARGET_MS = 200.0
MANY_PROVIDERS, MANY_MODELS = 50, 100
MANY_TARGET_MS = 1000.0
SEARCH_TARGET_MS = 20.0
ROUTE_TARGET_MS = 5.0
SEARCHES = 40
QUESTION = "Write a Python function that merges overlapping intervals, with tests. " * 20


@asynccontextmanager
async def library(**providers: str) -> AsyncGenerator[ModelLibrary]:
    """A new library, name → address, that has looked at nothing yet."""
    adapters = [LMStudioProvider(name, url) for name, url in providers.items()]
    opened = ModelLibrary(adapters, JobService())
    try:
        yield opened
    finally:
        await opened.aclose()
        for adapter in adapters:
            await adapter.aclose()


async def timed(ask: Callable[[], Awaitable[object]], times: int) -> list[float]:
    """Milliseconds of each call."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


async def cached(url: str) -> dict[str, list[float]]:
    """Looks that need not ask anybody."""
    async with library(lmstudio=url) as models:
        listed = await models.models()
        assert len(listed) == MODELS, len(listed)
        last = listed[-1]
        return {
            "resolve, full name": await timed(lambda: models.resolve(last.full_name), LOOKUPS),
            "resolve, bare name": await timed(lambda: models.resolve(last.id), LOOKUPS),
            "models, all of them": await timed(models.models, LOOKUPS),
            "default_model": await timed(models.default_model, LOOKUPS),
        }


async def first(**providers: str) -> list[float]:
    """Listings by libraries that know nothing, in which the living provider's models are all there."""
    taken = []
    for _ in range(FIRST_LOOKS):
        async with library(**providers) as models:
            started = time.perf_counter()
            listed = await models.models()
            taken.append((time.perf_counter() - started) * 1000)
            assert len(listed) == MODELS, len(listed)
    return taken


async def many(url: str) -> None:
    """Fifty providers of a hundred models: the first look, a name, words, and a route through all."""
    taken = []
    for _ in range(5):
        async with library(**{f"p{n}": url for n in range(MANY_PROVIDERS)}) as models:
            started = time.perf_counter()
            await models.resolve(f"p49:{(await models.models())[-1].id}")
            taken.append((time.perf_counter() - started) * 1000)
            await models.refresh(max_age=60)
            found = len(await models.models())
            assert found == MANY_PROVIDERS * MANY_MODELS, found
    show("validate a name, nothing known yet", taken, MANY_TARGET_MS)
    async with library(**{f"p{n}": url for n in range(MANY_PROVIDERS)}) as models:
        await models.refresh(max_age=60)
        last = (await models.models())[-1]
        show("validate it again", await timed(lambda: models.resolve(last.full_name), 500), 0.1)
        for words in ("qwen 4b", "p49 q4_k_m", "nothing of this name", ""):
            name = f"search for {words!r}"
            taken = await timed(lambda words=words: models.search(words), SEARCHES)  # type: ignore[misc]
            show(name, taken, SEARCH_TARGET_MS)
        show("task of a request", await timed(_guess, 500), ROUTE_TARGET_MS)
        router = Router(models)
        need = Need(text=QUESTION, tokens=1000)
        taken = await timed(lambda: router.route("auto", need), SEARCHES)
        show("route `auto` through all of them", taken, 200.0)


async def _guess() -> None:
    guess_task(QUESTION)


def show(name: str, taken: list[float], target: float) -> None:
    middle, worst = machine.median(taken), machine.percentile(taken, 0.99)
    verdict = "ok" if middle < target else "TOO SLOW"
    print(f"{name:44} {middle:9.4f} {worst:9.4f} {target:9.1f}  {verdict}", flush=True)


async def measure(url: str, other: str) -> None:
    print(f"\nfrom the cache, {MODELS} models{'':17} {'p50 ms':>9} {'p99 ms':>9} {'target':>9}")
    for name, taken in (await cached(url)).items():
        show(name, taken, CACHED_TARGET_MS)
    # It listens and says nothing, as a machine that has gone to sleep.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs = f"http://127.0.0.1:{silent.getsockname()[1]}"
        refuses = f"http://127.0.0.1:{free_port()}"
        print(
            f"\nfirst look, {MODELS} models each{'':17} {'p50 ms':>9} {'worst ms':>9} {'target':>9}"
        )
        show("one provider", await first(a=url), FIRST_TARGET_MS)
        show("beside one that refuses", await first(a=url, b=refuses), FIRST_TARGET_MS)
        show("beside one that hangs", await first(a=url, b=hangs), FIRST_TARGET_MS)
        show("beside both", await first(a=url, b=refuses, c=hangs), FIRST_TARGET_MS)
    async with library(a=url, b=other) as models:
        started = time.perf_counter()
        found = len(await models.models())
        print(
            f"\ntwo living providers: {found} models, {(time.perf_counter() - started) * 1000:.0f} ms"
        )


async def measure_many(url: str) -> None:
    print(
        f"\n{MANY_PROVIDERS} providers × {MANY_MODELS} models{'':20} {'p50 ms':>9} {'worst ms':>9} {'target':>9}"
    )
    await many(url)


def main() -> None:
    print(machine.header("looking models up"))
    with processes.upstream(models=MANY_MODELS) as one:
        asyncio.run(measure_many(one.url))
    with processes.upstream(models=MODELS) as one, processes.upstream(models=MODELS) as two:
        asyncio.run(measure(one.url, two.url))


if __name__ == "__main__":
    main()
