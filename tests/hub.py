"""A Hugging Face hub whose files are known: metadata on its own host, bytes at another, with ranges."""

import asyncio
import hashlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.sockets import Receive, Send, Watch, json_reply, part

CHUNK = 64 * 1024
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Asked:
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    @property
    def start(self) -> int:
        """Where the bytes asked for begin."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


class ScriptedHub:
    """Repositories: name → path → content. Its store is the same server by another name."""

    def __init__(self, repositories: dict[str, dict[str, bytes]]) -> None:
        self.repositories = repositories
        self.store: str | None = None
        """Where the bytes are, such as http://localhost:1234; None is the hub itself."""
        self.token: str | None = None
        self.gated: set[str] = set()
        self.lies_about: set[str] = set()
        """Paths whose checksum on the hub is another one."""
        self.hold_at: int | None = None
        """Behind this many bytes an answer waits for `may_go`."""
        self.may_go = asyncio.Event()
        self.cut_after: list[int] = []
        """One for each answer with bytes: after so many the connection breaks."""
        self.knows_ranges = True
        self.seconds_per_chunk = 0.0
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        """Whole replies by path."""
        self.asked: list[Asked] = []

    def downloads(self) -> list[Asked]:
        """What was asked of the store."""
        return [asked for asked in self.asked if asked.path.startswith("/store/")]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        headers = {k.decode().lower(): v.decode() for k, v in scope["headers"]}
        asked = Asked(scope["path"], parse_qs(scope["query_string"].decode()), headers)
        self.asked.append(asked)
        if asked.path in self.answers:
            await _reply(send, *self.answers[asked.path])
        elif asked.path.startswith("/store/"):
            await self._store(asked, receive, send)
        elif self.token and headers.get("authorization") != f"Bearer {self.token}":
            await json_reply(send, 401, {"error": "Invalid username or password."})
        elif asked.path == "/api/models":
            await json_reply(send, 200, self._found(asked.query))
        elif asked.path.startswith("/api/models/"):
            await self._repository(asked.path.removeprefix("/api/models/"), send)
        else:
            await self._resolve(asked.path, send)

    def _found(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        words = query["search"][0].casefold()
        return [
            {"_id": "x", "id": name, "downloads": 1000 - n, "likes": 7, "gated": name in self.gated}
            for n, name in enumerate(self.repositories)
            if words in name.casefold()
        ]

    async def _repository(self, name: str, send: Send) -> None:
        files = self.repositories.get(name)
        if files is None:
            await json_reply(send, 404, {"error": "Repository not found"})
            return
        siblings = [
            {
                "rfilename": path,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
                "lfs": {
                    "sha256": self._sha256(path, content),
                    "size": len(content),
                    "pointerSize": 134,
                },
            }
            for path, content in files.items()
        ]
        siblings.append({"rfilename": "README.md", "size": 20, "blobId": "aa"})
        gated = "auto" if name in self.gated else False
        said = {"id": name, "sha": REVISION, "gated": gated, "siblings": siblings}
        await json_reply(send, 200, said)

    def _sha256(self, path: str, content: bytes) -> str:
        told = b"something else" if path in self.lies_about else content
        return hashlib.sha256(told).hexdigest()

    async def _resolve(self, path: str, send: Send) -> None:
        name, _, rest = path.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        if name in self.gated:
            await _reply(send, 403, {"X-Error-Code": "GatedRepo"}, b"Access is restricted")
        elif revision != REVISION or file not in self.repositories.get(name, {}):
            await _reply(send, 404, {"X-Error-Code": "EntryNotFound"}, b"Entry not found")
        else:
            target = f"{self.store or ''}/store/{name}/{file}?signature=a%2Fb"
            await _reply(send, 302, {"Location": target}, b"")

    async def _store(self, asked: Asked, receive: Receive, send: Send) -> None:
        owner, repository, path = unquote(asked.path).removeprefix("/store/").split("/", 2)
        content = self.repositories[f"{owner}/{repository}"][path]
        start = asked.start if self.knows_ranges else 0
        headers = [(b"content-length", str(len(content) - start).encode())]
        if start:
            said = f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers.append((b"content-range", said.encode()))
        await send(
            {"type": "http.response.start", "status": 206 if start else 200, "headers": headers}
        )
        end = start + self.cut_after.pop(0) if self.cut_after else len(content)
        watch = Watch(receive)
        try:
            for at in range(start, end, CHUNK):
                if self._held(at) and not await watch.unless_gone(self.may_go):
                    return
                await asyncio.sleep(self.seconds_per_chunk)
                if watch.is_gone:
                    return
                await part(send, content[at : min(at + CHUNK, end)])
            if end == len(content):
                await part(send, b"", more=False)
        finally:
            watch.close()

    def _held(self, at: int) -> bool:
        return self.hold_at is not None and at >= self.hold_at


async def _reply(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    raw = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await part(send, body, more=False)
