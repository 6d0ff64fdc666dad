"""Looking models up: search, and the files of a repository. Two questions, plain JSON."""

import asyncio
from typing import Any, Final

import orjson
from pydantic import ValidationError
from yarl import URL

from core.errors import HubModelNotFound, HubNeedsToken, HubRejected, HubUnreachable
from core.hub import HubFile, HubModel, HubRepository, is_safe_path
from infrastructure.hub.client import HubClient

ANSWER_SECONDS: Final = 12.0
MAX_BYTES: Final = 16 * 1024 * 1024
_FIELDS: Final = ("downloads", "likes", "gated", "lastModified")


class HubLookup:
    """A ModelHub over a client, which its owner closes."""

    def __init__(self, client: HubClient) -> None:
        self._client = client

    async def search(self, query: str, *, limit: int) -> list[HubModel]:
        asked = {"search": query, "filter": "gguf", "sort": "downloads", "limit": str(limit)}
        url = (self._client.base / "api/models").with_query(
            [*asked.items(), *(("expand", field) for field in _FIELDS)]
        )
        found = await self._json(url)
        if not isinstance(found, list):
            raise HubRejected("The hub's answer is not a list of models.")
        return [model for entry in found[:limit] if (model := _model(entry))]

    async def repository(self, name: str) -> HubRepository:
        url = (self._client.base / "api/models" / name).with_query(blobs="true")
        try:
            said = await self._json(url)
        except (HubModelNotFound, HubNeedsToken) as error:
            raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
        if not isinstance(said, dict) or not isinstance(said.get("siblings"), list):
            raise HubRejected(f"The hub's answer about {name} cannot be read.")
        files = [_file(entry) for entry in said["siblings"]]
        try:
            return HubRepository(
                id=name,
                revision=_revision(said.get("sha")),
                gated=bool(said.get("gated")),
                files=tuple(file for file in files if file is not None),
            )
        except ValidationError as error:
            raise HubRejected(f"The hub's answer about {name} cannot be read.") from error

    async def _json(self, url: URL) -> Any:
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._client.get(url) as response:
                raw = bytearray()
                async for chunk in response.content.iter_any():
                    raw += chunk
                    if len(raw) > MAX_BYTES:
                        raise HubRejected("The hub's answer is too large.")
        except TimeoutError as error:
            raise HubUnreachable(
                "The hub did not answer in time.", hint="Try again in a minute."
            ) from error
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise HubRejected("What answers at the hub's address is not the hub.") from error


def _revision(sha: object) -> str:
    if isinstance(sha, str) and sha.isalnum():
        return sha
    return "main"


def _model(entry: object) -> HubModel | None:
    """A search result; None for one that cannot be read, or not be asked for."""
    if not isinstance(entry, dict):
        return None
    try:
        return HubModel(
            id=entry.get("id") or entry.get("modelId"),
            downloads=entry.get("downloads"),
            likes=entry.get("likes"),
            gated=bool(entry.get("gated")),
            updated_at=entry.get("lastModified"),
        )
    except ValidationError:
        return None


def _file(entry: object) -> HubFile | None:
    """A GGUF file; None for anything else, and for names that are not safe."""
    if not isinstance(entry, dict):
        return None
    path, lfs = entry.get("rfilename"), entry.get("lfs")
    if not isinstance(path, str) or not is_safe_path(path):
        return None
    known = lfs if isinstance(lfs, dict) else {}
    sha256 = known.get("sha256")
    size = known.get("size", entry.get("size"))
    oid = sha256 or entry.get("blobId")
    if not isinstance(size, int) or size <= 0 or not isinstance(oid, str) or not oid.isalnum():
        return None
    return HubFile(path=path, size_bytes=size, oid=oid, sha256=sha256)
