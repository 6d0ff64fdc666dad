"""What it costs to find chats by meaning among thousands of messages, and to keep their vectors.

    python -m benchmarks.chat_search [messages [dimensions]]

The real store on a real disk; the vectors are random, so that nothing depends on a model. What a model
takes to read the query comes on top.
"""

import asyncio
import random
import sys
import tempfile
import time
from array import array
from pathlib import Path

from benchmarks import machine
from core.chats import Message
from core.embedding import Vector
from infrastructure.storage import SqlChatStore, open_store, sqlite_url

MESSAGES, DIMENSIONS = 5000, 768
A_CHAT = 10
SEARCHES = 200
TARGET_MS = 50.0
SPACE = "benchmark"
TEXT = "river stone bridge bread fish wool salt paper boat wind rain light hill snow tree"
WORDS = TEXT.split()


def vector(source: random.Random, dimensions: int) -> Vector:
    return tuple(array("f", (source.gauss(0, 1) for _ in range(dimensions))))


async def fill(store: SqlChatStore, count: int, source: random.Random) -> list[str]:
    """Chats of ten messages each; the ids of all messages."""
    ids: list[str] = []
    for _ in range(count // A_CHAT):
        chat = await store.create_chat(title=" ".join(source.choices(WORDS, k=5)))
        parent, said = None, []
        for place in range(A_CHAT):
            message = Message(
                id=f"{chat.id}-{place}",
                chat_id=chat.id,
                parent_id=parent,
                role="assistant" if place % 2 else "user",
                content=" ".join(source.choices(WORDS, k=60)),
                created_at=time.time(),
            )
            parent = message.id
            said.append(message)
        await store.add_messages(said, head_id=said[-1].id)
        ids += [message.id for message in said]
    return ids


async def timed(searches: int, ask: object) -> list[float]:
    """Milliseconds of each call."""
    taken = []
    for _ in range(searches):
        started = time.perf_counter()
        await ask()  # type: ignore[operator]
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def show(name: str, taken: list[float], target: float | None = TARGET_MS) -> None:
    middle, worst = machine.median(taken), machine.percentile(taken, 0.99)
    verdict = "" if target is None else "ok" if middle < target else "TOO SLOW"
    print(f"{name:46} {middle:9.2f} {worst:9.2f}  {verdict}", flush=True)


async def measure(folder: Path, count: int, dimensions: int) -> None:
    source = random.Random(7)
    async with open_store(sqlite_url(folder)) as store:
        ids = await fill(store, count, source)
        index = store.message_index
        keeping = []
        for start in range(0, len(ids), 16):
            vectors = {each: vector(source, dimensions) for each in ids[start : start + 16]}
            started = time.perf_counter()
            await index.keep_messages(SPACE, vectors)
            keeping.append((time.perf_counter() - started) * 1000)

        asked = vector(source, dimensions)

        async def by_meaning() -> None:
            assert await index.similar_chats(SPACE, asked, "river", limit=40)

        async def by_words() -> None:
            assert (await store.list_chats(query="river bri", limit=50)).chats

        print(f"\n{count:,} messages of {dimensions} dimensions{'':13} {'p50 ms':>9} {'p99 ms':>9}")
        reading = await timed(1, lambda: index.make_ready(SPACE))
        show("reading them all, behind one's back", reading, None)
        show("a search by meaning", await timed(SEARCHES, by_meaning))
        await index.keep_messages(SPACE, {ids[0]: vector(source, dimensions)})
        show("the search after a new message", await timed(1, by_meaning))
        show("a search by words, to compare", await timed(SEARCHES, by_words), None)
        show("keeping the vectors of 16 messages", keeping, None)


def main() -> None:
    given = [int(each) for each in sys.argv[1:]]
    count, dimensions = [*given, *(MESSAGES, DIMENSIONS)[len(given) :]]
    print(machine.header("finding chats by meaning"))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), count, dimensions))


if __name__ == "__main__":
    main()
