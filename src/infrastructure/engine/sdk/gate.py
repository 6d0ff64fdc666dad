"""Who may use the WebSocket: the first frame says who it is, and with which token."""

import asyncio
import hmac
from typing import Final

import orjson
import structlog
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from infrastructure.engine.guard import MISSING, TOKEN, starred
from infrastructure.engine.sdk.frames import Authentication

log = structlog.get_logger(__name__)

SECONDS: Final = 10.0


async def admit(socket: WebSocket, token: str | None, *, seconds: float = SECONDS) -> bool:
    """Take in the first frame and answer it; False when the socket is closed instead."""
    await socket.accept()
    try:
        async with asyncio.timeout(seconds):
            first = await socket.receive_text()
        refusal = _refusal(first, token)
    except (TimeoutError, KeyError):
        refusal = "No authentication was received in time."
    except WebSocketDisconnect:
        return False
    answer = {"success": True} if refusal is None else {"success": False, "error": refusal}
    try:
        await socket.send_text(orjson.dumps(answer).decode())
        if refusal is not None:
            log.warning("sdk_client_refused", path=socket.url.path)
            await socket.close(1008)
    except WebSocketDisconnect:
        return False
    return refusal is None


def _refusal(first: str, token: str | None) -> str | None:
    try:
        given = Authentication.model_validate_json(first)
    except ValidationError:
        return "The first frame must be an authentication."
    if token is None:
        return None
    shown = f"sk-lm-{given.client_identifier}:{given.client_passkey}"
    if not TOKEN.fullmatch(shown):
        # What clients make up when they were given no token.
        return MISSING
    if hmac.compare_digest(shown.encode(), token.encode()):
        return None
    return f"Invalid LM Studio API token provided: {starred(shown)}"
