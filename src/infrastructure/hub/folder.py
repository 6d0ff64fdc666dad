"""The models folder, in LM Studio's layout `publisher/model/file.gguf`, and how files get there.

Files arrive one after the other beside their places, and move there together at the end: a model
with missing parts is never seen.
"""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiohttp
from yarl import URL

from core.errors import HubRejected, HubUnreachable
from core.hub import Choice, HubRepository, Transfer
from core.leftovers import Leftover, LeftoverInUse, LeftoverNotFound
from infrastructure.hub.client import HubClient
from infrastructure.hub.leftovers import find_leftovers, find_parts
from infrastructure.hub.part import Part, disk_errors, in_thread

# Waits before another try; a try that brings anything starts the count anew.
RETRY_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# Fewer, larger steps through the thread that writes.
STEP_BYTES: Final = 1024 * 1024
STEP_SECONDS: Final = 0.2


class HubFolder:
    """A ModelFolder filled from the hub, over a client that its owner closes."""

    def __init__(
        self,
        root: Path,
        client: HubClient,
        *,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        disk_free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._root = root
        self._client = client
        self._retry_seconds = retry_seconds
        self._disk_free = disk_free
        self._locks: dict[Path, asyncio.Lock] = {}
        self._busy: Counter[Path] = Counter()
        """How many downloads are bringing each part."""

    async def missing(self, repository: HubRepository, choice: Choice) -> int:
        def count() -> int:
            parts = self._parts(repository, choice)
            return sum(p.file.size_bytes - p.arrived for p in parts if not p.present)

        return await in_thread(count)

    async def free(self) -> int:
        def look() -> int:
            place = self._root
            while not place.exists():
                place = place.parent
            return self._disk_free(place)

        return await in_thread(look)

    async def fetch(self, repository: HubRepository, choice: Choice) -> AsyncGenerator[Transfer]:
        parts = self._parts(repository, choice)
        busy = [part.path for part in parts]
        self._busy.update(busy)
        try:
            async with aclosing(self._fetch(repository, choice, parts)) as steps:
                async for step in steps:
                    yield step
        finally:
            self._busy.subtract(busy)

    async def leftovers(self) -> list[Leftover]:
        return await in_thread(lambda: find_leftovers(self._root, +self._busy))

    async def remove_leftover(self, name: str) -> None:
        # Only what we find ourselves is ever deleted: a name leads nowhere else.
        path = (await in_thread(lambda: find_parts(self._root))).get(name)
        if path is None:
            raise LeftoverNotFound(f"No download left {name!r} here.")
        lock = self._locks.setdefault(path, asyncio.Lock())
        if self._busy[path] or lock.locked():
            raise LeftoverInUse(
                f"{path.name} is being downloaded.", hint="Cancel the download first."
            )
        async with lock:  # a download that begins now waits, and begins anew
            await in_thread(lambda: path.unlink(missing_ok=True))

    async def _fetch(
        self, repository: HubRepository, choice: Choice, parts: list[Part]
    ) -> AsyncGenerator[Transfer]:
        total, done = choice.size_bytes, 0
        for part in parts:
            async with (
                self._lock(part),
                aclosing(self._bring(repository, part)) as steps,
            ):
                async for stage in steps:
                    here = done + part.counted
                    yield Transfer(downloaded_bytes=here, total_bytes=total, stage=stage)
            done += part.file.size_bytes
            yield Transfer(downloaded_bytes=done, total_bytes=total)
        async with AsyncExitStack() as stack:
            # Another download may be reading a file that both share. In one order for all.
            for part in sorted(parts, key=lambda each: each.path):
                await stack.enter_async_context(self._lock(part))
            await in_thread(lambda: _move_in(parts))

    def _lock(self, part: Part) -> asyncio.Lock:
        return self._locks.setdefault(part.path, asyncio.Lock())

    def _parts(self, repository: HubRepository, choice: Choice) -> list[Part]:
        owner, _, name = repository.id.partition("/")
        # Folders within a repository are not part of the layout; names only clash in rare ones.
        names = Counter(file.name.casefold() for file in repository.files)
        return [
            Part(
                self._root
                / owner
                / name
                / (file.name if names[file.name.casefold()] < 2 else file.path.replace("/", "-")),
                file,
            )
            for file in choice.files
        ]

    async def _bring(self, repository: HubRepository, part: Part) -> AsyncGenerator[str | None]:
        """The file, complete and checked; says meanwhile what it does instead of downloading."""
        if await in_thread(lambda: part.present):
            return
        try:
            await in_thread(part.open)
            while await in_thread(part.read_on):
                yield "checking what is here already"
            async with aclosing(self._persist(repository, part)) as steps:
                async for stage in steps:
                    yield stage
            await in_thread(part.verify)
        finally:
            with disk_errors():
                part.close()

    async def _persist(self, repository: HubRepository, part: Part) -> AsyncGenerator[str | None]:
        """Try again after a broken connection, as long as that brings anything."""
        failures = 0
        while part.size < part.file.size_bytes:
            before = part.size
            try:
                async with aclosing(
                    self._stream(_address(self._client, repository, part), part)
                ) as steps:
                    async for _ in steps:
                        yield None
            except HubUnreachable:
                failures = 1 if part.size > before else failures + 1
                if failures > len(self._retry_seconds):
                    raise
                yield "the connection broke; trying again"
                await asyncio.sleep(self._retry_seconds[failures - 1])

    async def _stream(self, url: URL, part: Part) -> AsyncGenerator[None]:
        """One request, from behind what is here; a step for each stretch that is on the disk."""
        headers = {"Range": f"bytes={part.size}-"} if part.size else {}
        async with self._client.get(url, headers=headers) as response:
            if response.status == 416 or (part.size and response.status != 206):
                await in_thread(part.restart)  # the server does not go on, so we begin anew
            if response.status == 416:
                return
            _require_start(response, part.size)
            stretch, began = bytearray(), time.monotonic()
            async for chunk in response.content.iter_any():
                stretch += chunk
                if len(stretch) < STEP_BYTES and time.monotonic() - began < STEP_SECONDS:
                    continue
                await in_thread(partial(part.write, bytes(stretch)))
                stretch.clear()
                began = time.monotonic()
                yield
            await in_thread(partial(part.write, bytes(stretch)))
        if part.size < part.file.size_bytes:
            raise HubUnreachable("The hub ended the file before its end.", hint="Try again.")
        yield


def _address(client: HubClient, repository: HubRepository, part: Part) -> URL:
    path = quote(f"{repository.id}/resolve/{repository.revision}/{part.file.path}")
    return client.base.joinpath(path, encoded=True)


def _require_start(response: aiohttp.ClientResponse, start: int) -> None:
    """Raises HubRejected for a stretch that begins elsewhere than asked."""
    said = response.headers.get("Content-Range", "")
    if response.status == 206 and not said.startswith(f"bytes {start}-"):
        raise HubRejected("The hub sent another part of the file than we asked for.")


def _move_in(parts: list[Part]) -> None:
    # The first part last: it is the one that is looked for.
    for part in reversed(parts):
        part.move_in()
