"""Downloads by Ollama itself, with its own progress; they end when nobody listens any more."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import orjson
from pydantic import ValidationError

from core.errors import DownloadFailed, HubModelNotFound, ProviderError
from core.hub import HUB_HOSTS, Transfer
from infrastructure.providers.ollama.catalog import Catalog
from infrastructure.providers.ollama.wire import WirePull
from infrastructure.providers.openai.stream import LineSplitter
from infrastructure.providers.problems import quoted, reply_problem
from infrastructure.providers.server import HttpServer, Stream
from infrastructure.providers.wording import Wording

PATH = "/api/pull"
HUB = "hf.co"
# Ollama sends a line several times a second while it downloads, and looks things up before.
SILENT_SECONDS = 120.0
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+){0,2}(:[\w.-]+)?")
_OK = 200
_DONE = "success"
_UNKNOWN = ("file does not exist", "not found", "does not exist", "invalid model name")


async def pull(
    server: HttpServer, words: Wording, catalog: Catalog, model: str, quantization: str | None
) -> AsyncGenerator[Transfer]:
    """Ends when the model is in Ollama's list. Closing it stops the download, which can be resumed.

    Raises HubModelNotFound, DownloadFailed with Ollama's reason, or another ProviderError.
    """
    name = pull_name(model, quantization)
    stream = await server.open(PATH, {"model": name, "stream": True}, seconds=SILENT_SECONDS)
    parts: dict[str, tuple[int, int]] = {}
    try:
        if stream.status != _OK:
            reply = await stream.reply()
            raise _problem(reply.error.text if reply.error else "", name, words) or reply_problem(
                reply, words
            )
        done = False
        async with aclosing(_lines(stream)) as lines:
            async for line in lines:
                if line.error is not None:
                    raise _problem(line.error, name, words) or _failed(line.error, words)
                if line.digest and line.total:
                    parts[line.digest] = (line.completed or 0, line.total)
                done = done or line.status == _DONE
                yield _transfer(parts, None if line.digest else line.status)
    finally:
        stream.close()
    if not done:
        raise _failed("it ended without saying that it succeeded", words)
    if not await _listed(catalog, name):
        raise _failed(f"its list does not show {name}", words)


def pull_name(model: str, quantization: str | None) -> str:
    """What Ollama calls it: a name of its library, or `hf.co/owner/repository:Q4_K_M`."""
    name = model.strip()
    parts = urlsplit(name if "://" in name else f"https://{name}")
    if parts.hostname in HUB_HOSTS:
        name = f"{HUB}/{parts.path.strip('/')}"
    tagged = ":" in name.rpartition("/")[2]
    return f"{name}:{quantization}" if quantization and not tagged else name


def library_name(model: str) -> str | None:
    """The name, if it is one of Ollama's library."""
    name = model.strip()
    hub = "://" in name or name.partition("/")[0] in {*HUB_HOSTS, HUB}
    return None if hub or not _NAME.fullmatch(name) else name


async def _lines(stream: Stream) -> AsyncGenerator[WirePull]:
    lines = LineSplitter()
    while chunk := await stream.read(seconds=SILENT_SECONDS):
        for line in lines.feed(chunk):
            if (read := _read(line)) is not None:
                yield read
    if (read := _read(lines.rest())) is not None:
        yield read


def _read(line: bytes) -> WirePull | None:
    try:
        found: Any = orjson.loads(line) if line.strip() else None
        return None if found is None else WirePull.model_validate(found)
    except (orjson.JSONDecodeError, ValidationError):
        return None


def _transfer(parts: dict[str, tuple[int, int]], stage: str | None) -> Transfer:
    return Transfer(
        downloaded_bytes=sum(done for done, _ in parts.values()),
        total_bytes=sum(total for _, total in parts.values()) or None,
        stage=None if stage == _DONE else stage,
    )


def _problem(text: str, name: str, words: Wording) -> ProviderError | HubModelNotFound | None:
    if any(word in text.lower() for word in _UNKNOWN):
        return HubModelNotFound(
            f"{words.who} does not find {name}.",
            hint="Look up how it is written at https://ollama.com/library.",
        )
    return None


def _failed(reason: str, words: Wording) -> DownloadFailed:
    return DownloadFailed(
        f"{words.who} could not download it: {quoted(reason)}",
        hint="Starting it again goes on where it stopped.",
    )


async def _listed(catalog: Catalog, name: str) -> bool:
    ids = {model.id.lower() for model in await catalog.models()}
    return bool(ids & {name.lower(), f"{name.lower()}:latest"})
