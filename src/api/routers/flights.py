"""Flights: how an answer was made, to look at and as a file."""

import time

from fastapi import APIRouter, Response

from api.services import Desk
from core.flight import Flight, FlightFile
from core.version import VERSION

router = APIRouter(prefix="/messages", tags=["chats"])


@router.get("/{message_id}/flight")
async def read_flight(message_id: str, desk: Desk) -> Flight:
    """Phases, the machine beside them, and what was sent and came back. Also while it runs."""
    return await desk.recorder.flight(message_id)


@router.get("/{message_id}/flight/export", response_model=FlightFile)
async def export_flight(message_id: str, desk: Desk) -> Response:
    """The same as a file, for a bug report. It holds the conversation, and no secrets."""
    flight = await desk.recorder.flight(message_id)
    file = FlightFile(desk_version=VERSION, exported_at=round(time.time(), 3), flight=flight)
    name = "".join(letter for letter in message_id if letter.isascii() and letter.isalnum())
    return Response(
        file.model_dump_json(indent=2),
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="flight-{name[:12]}.json"'},
    )
