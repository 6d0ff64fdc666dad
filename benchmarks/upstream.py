"""A process that plays LM Studio and knows the moment each token left it.

Plain sockets, so that it costs little beside what is measured. `python -m benchmarks.upstream` prints
its port. All tokens of a stream are due at fixed times, whoever reads slowly.
"""

import argparse
import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import orjson

from tests.frames import chunk_halves, ending
from tests.sockets import EVENTS_HEAD, http_chunk, http_json, raw_server

MODEL = "bench/numbered"
# In markdown, tokens with this many between them carry a mark.
MARK_EVERY = 5
LAST_CHUNK = b"0\r\n\r\n"
# Between the last stream's opening and the first token, so that starting is not measured as delay.
SETTLE_SECONDS = 1.0


def monotonic_us() -> int:
    """Microseconds of the clock that all processes of this machine share."""
    return time.monotonic_ns() // 1000


class Upstream:
    """Streams begin together: none writes before `together` of them are open."""

    def __init__(self, *, together: int, tokens: int, rate: float, text: str, models: int) -> None:
        self._together = together
        self._tokens = tokens
        self._rate = rate
        self._text = text
        self._lists = _lists(models)
        self._open = 0
        self._all_open = asyncio.Event()
        self._all_open_us = 0
        self._emitted: list[float] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        """One request."""
        path = head.split(b" ", 2)[1]
        if path == b"/v1/chat/completions":
            self._begin(self._stream(writer))
            return
        if path == b"/benchmark/open":
            self._begin(self._tell_open(writer))
            return
        if path == b"/benchmark/emitted":
            body: Any = self._emitted
        else:
            body = self._lists.get(path, {"error": f"Unexpected endpoint or method. ({path!r})"})
        writer.write(http_json(body))

    def _begin(self, answer: Coroutine[Any, Any, None]) -> None:
        """A task: the connection's reader must go on to see the client leave."""
        task = asyncio.create_task(answer)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell_open(self, writer: asyncio.StreamWriter) -> None:
        """Answer once all streams are open, with the moment the last one was."""
        await self._all_open.wait()
        writer.write(http_json({"all_open_us": self._all_open_us}))

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS_HEAD)
        place = self._open
        self._open += 1
        if self._open == self._together:
            self._all_open_us = monotonic_us()
            self._all_open.set()
        await self._all_open.wait()
        before, after = chunk_halves(MODEL)
        # Spread over one interval, as independent models would be.
        stagger = (place % self._together) / self._together / self._rate
        started = time.monotonic() + SETTLE_SECONDS + stagger
        for number, piece in enumerate(pieces(self._text, self._tokens)):
            await asyncio.sleep(started + number / self._rate - time.monotonic())
            if writer.is_closing():
                return
            if self._text == "numbered":
                piece = f"{number}:{monotonic_us()} "
            else:
                self._emitted.append(time.time())
            # The token's own quotes fall together with those around it.
            writer.write(http_chunk(before + orjson.dumps(piece)[1:-1] + after))
        writer.write(http_chunk(b"".join(ending(MODEL, self._tokens))) + LAST_CHUNK)
        self._open -= 1
        if self._open == 0:
            self._all_open.clear()


def pieces(text: str, count: int) -> Iterator[str]:
    """The tokens: numbers, filled in later, or markdown in which token n holds the mark `§n§`."""
    if text == "numbered":
        yield from ("" for _ in range(count))
        return
    for number in range(count):
        yield _markdown(number)


def _markdown(number: int) -> str:
    """A paragraph of 40 tokens: heading, prose, a list, code; every fifth token has a mark."""
    place = number % 40
    lead = {
        0: "\n\n## Part ",
        4: "\n\nSome **bold** and ",
        16: "\n\n- first ",
        20: "\n- second ",
        26: "\n\n```python\nvalue = ",
        34: "\n```\n\nThen `code` and ",
    }.get(place, "word ")
    return f"{lead}§{number}§ " if number % MARK_EVERY == 0 else lead


def _lists(count: int) -> dict[bytes, Any]:
    names = [MODEL, *(f"publisher-{n % 20}/model-{n}-instruct" for n in range(1, count))]
    native = [
        {
            "type": "llm",
            "publisher": "bench",
            "key": name,
            "display_name": name.rpartition("/")[2],
            "architecture": "qwen3",
            "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
            "size_bytes": 2_497_280_256,
            "params_string": "4B",
            "loaded_instances": [{"id": name, "config": {"context_length": 32768}}]
            if name == MODEL
            else [],
            "max_context_length": 32768,
            "format": "gguf",
            "capabilities": {"vision": False, "trained_for_tool_use": True},
            "description": None,
        }
        for name in names
    ]
    return {
        b"/lmstudio-greeting": {"lmstudio": True},
        b"/api/v1/models": {"models": native},
        b"/v1/models": {"data": [{"id": name, "object": "model"} for name in names]},
    }


async def _serve(upstream: Upstream) -> None:
    async with raw_server(upstream.handle) as url:
        print(url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--together", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--text", choices=("numbered", "markdown"), default="numbered")
    parser.add_argument("--models", type=int, default=3)
    given = parser.parse_args()

    async def run() -> None:
        await _serve(Upstream(**vars(given)))

    asyncio.run(run())


if __name__ == "__main__":
    main()
