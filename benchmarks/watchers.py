"""The load: starts many turns at once, reads every token as it comes, and checks that all are there.

`python -m benchmarks.watchers` prints what it saw as JSON.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from benchmarks.machine import cpu_seconds, peak_memory_mb, percentile
from benchmarks.upstream import MODEL, monotonic_us

ASKED_AS = f"lmstudio:{MODEL}"


@dataclass
class Seen:
    """What one watcher got."""

    numbers: list[int] = field(default_factory=list)
    delays_us: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    """The events' own numbers."""
    status: str = "no end"

    def take(self, content: str, now_us: int) -> None:
        """Some whole tokens, `number:time`."""
        self.text.append(content)
        for token in content.split():
            number, _, emitted = token.partition(":")
            self.numbers.append(int(number))
            self.delays_us.append(now_us - int(emitted))


async def lines(answer: aiohttp.ClientResponse) -> AsyncGenerator[tuple[bytes, int]]:
    """Whole lines, each with the moment its chunk came."""
    rest = b""
    async for chunk in answer.content.iter_any():
        now = monotonic_us()
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line, now


class Load:
    """`streams` turns against one desk, or as many bare completions against a relay."""

    def __init__(self, client: aiohttp.ClientSession, given: argparse.Namespace) -> None:
        self._client = client
        self._url: str = given.url
        self._upstream: str = given.upstream
        self._streams: int = given.streams
        self._tokens: int = given.tokens
        self._merge_ms: int = given.merge_ms
        self._pid: int = given.pid
        self.seen = [Seen() for _ in range(self._streams)]

    async def turns(self) -> dict[str, Any]:
        """Through the desk: chats, turns, events, and what was kept."""
        chats = [await self._new_chat() for _ in range(self._streams)]
        before, asked_us = cpu_seconds(self._pid), monotonic_us()
        work = [self._turn(chat, seen) for chat, seen in zip(chats, self.seen, strict=True)]
        report = await self._measured(work, before, asked_us)
        kept = [await self._kept(chat) for chat in chats]
        report["kept_wrong"] = sum(
            1
            for text, seen in zip(kept, self.seen, strict=True)
            if text != ("done", "".join(seen.text))
        )
        return report

    async def completions(self) -> dict[str, Any]:
        """Through a relay, which has no turns."""
        before, asked_us = cpu_seconds(self._pid), monotonic_us()
        work = [self._completion(seen) for seen in self.seen]
        return await self._measured(work, before, asked_us)

    async def _measured(self, work: list[Any], before: float, asked_us: int) -> dict[str, Any]:
        watching = asyncio.gather(*work)
        # Answered when all streams are open, before the first token.
        opening = asyncio.create_task(self._json("GET", self._upstream + "/benchmark/open"))
        await asyncio.wait({opening, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            await watching  # raises what kept a stream from opening
        all_open = (await opening)["all_open_us"]
        started = cpu_seconds(self._pid)
        latencies = await watching
        ended = cpu_seconds(self._pid)
        delays = [float(d) for seen in self.seen for d in seen.delays_us]
        tokens = sum(len(seen.numbers) for seen in self.seen)
        return {
            "tokens": tokens,
            "expected": self._streams * self._tokens,
            "wrong": sum(1 for seen in self.seen if self._is_wrong(seen)),
            "statuses": sorted({seen.status for seen in self.seen}),
            "start_seconds": (all_open - asked_us) / 1e6,
            "start_p50_ms": percentile(latencies, 0.5) * 1000,
            "start_p99_ms": percentile(latencies, 0.99) * 1000,
            "start_cpu": started - before,
            "stream_cpu": ended - started,
            # 1 when each token came as an event of its own; less when a busy machine merged some.
            "events_per_token": sum(len(seen.events) for seen in self.seen) / max(tokens, 1),
            "delay_p50_ms": percentile(delays, 0.5) / 1000,
            "delay_p99_ms": percentile(delays, 0.99) / 1000,
            "peak_mb": peak_memory_mb(self._pid),
        }

    def _is_wrong(self, seen: Seen) -> bool:
        """A token or an event lost, doubled or out of order, or an end that is none."""
        events = all(a < b for a, b in zip(seen.events, seen.events[1:], strict=False))
        return seen.numbers != list(range(self._tokens)) or not events or seen.status != "done"

    async def _new_chat(self) -> str:
        body = {"model_id": ASKED_AS}
        return str((await self._json("POST", f"{self._url}/api/v1/chats", body))["id"])

    async def _turn(self, chat: str, seen: Seen) -> float:
        asked = time.monotonic()
        url = f"{self._url}/api/v1/chats/{chat}/turns"
        job = (await self._json("POST", url, {"content": "Count."}))["job_id"]
        latency = time.monotonic() - asked
        events = f"{self._url}/api/v1/jobs/{job}/events?merge_ms={self._merge_ms}"
        async with self._client.get(events) as answer:
            async for line, now in lines(answer):
                if line.startswith(b"id: "):
                    seen.events.append(int(line[4:]))
                elif line.startswith(b"data: "):
                    event = orjson.loads(line[6:])
                    if event["type"] == "message.delta":
                        seen.take(event["content"], now)
                    elif event["type"] == "job.end":
                        seen.status = event["status"]
        return latency

    async def _completion(self, seen: Seen) -> float:
        asked = time.monotonic()
        url = f"{self._url}/v1/chat/completions"
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Count."}], "stream": True}
        async with self._client.post(url, json=body) as answer:
            latency = time.monotonic() - asked
            async for line, now in lines(answer):
                if line == b"data: [DONE]":
                    seen.status = "done"
                elif line.startswith(b"data: "):
                    choices = orjson.loads(line[6:])["choices"]
                    if choices and (content := choices[0]["delta"].get("content")):
                        seen.take(content, now)
        return latency

    async def _kept(self, chat: str) -> tuple[str, str]:
        conversation = await self._json("GET", f"{self._url}/api/v1/chats/{chat}")
        message = conversation["messages"][-1]
        return message["status"], message["content"]

    async def _json(self, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
        async with self._client.request(method, url, json=body) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {url}: {answer.status} {text[:300]!r}")
            return orjson.loads(text)


async def run(given: argparse.Namespace) -> dict[str, Any]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
        load = Load(client, given)
        return await (load.turns() if given.kind == "turns" else load.completions())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("turns", "completions"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--streams", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--merge-ms", type=int, default=0)
    print(orjson.dumps(asyncio.run(run(parser.parse_args()))).decode())


if __name__ == "__main__":
    main()
