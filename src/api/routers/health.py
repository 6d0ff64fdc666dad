"""Whether the process lives, and whether it can do its work."""

from fastapi import APIRouter
from starlette.responses import JSONResponse

from api.errors import problem
from api.services import Desk

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(desk: Desk) -> JSONResponse:
    """Chats can be read and the providers have been looked at once."""
    await desk.store.count_by_status("writing")
    if not desk.watch.looked.is_set():
        return problem(503, "starting", "Still looking at the providers.", hint="Try again.")
    return JSONResponse({"status": "ok"})
