"""What the page's scripts ask about broken-off downloads: what is left of them, and deleting it."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from app import wording
from app.client import DeskClient
from core.leftovers import Leftover


def add_leftovers(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/downloads/parts."""

    @router.get("/downloads/parts")
    async def parts() -> list[dict[str, Any]]:
        return [leftover_view(each) for each in await client.leftovers()]

    @router.delete("/downloads/parts", status_code=204)
    async def delete(name: Annotated[str, Query(min_length=1, max_length=1000)]) -> None:
        await client.delete_leftover(name)


def leftover_view(leftover: Leftover) -> dict[str, Any]:
    """A row: what would have become of it, and how much of the disk it takes."""
    owner, _, file = leftover.file.rpartition("/")
    size = wording.size(leftover.bytes) if leftover.bytes else "0 MB"
    return {
        "name": leftover.name,
        "file": file,
        "words": wording.DOT.join((f"{size} of an unfinished download", owner)),
    }
