"""Signing in to remote tool servers, and the page a person comes back to."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from api.security import LOOPBACK_NAMES
from api.services import Desk
from api.settings import Settings
from api.signed_in_page import signed_in_page
from core.errors import BadParameter, DeskError, NotFound
from core.tool_server import ToolServer
from core.tool_sign_in import SignInAnswer, SignInPage

router = APIRouter(prefix="/tool-servers", tags=["tools"])

DOOR = "/api/v1"
BACK = "/oauth/callback"
# Whatever a stranger's page adds to it, no more is looked at.
Part = Annotated[str | None, Query(max_length=8000)]


class SignIn(BaseModel):
    """Where the person's browser is."""

    model_config = ConfigDict(extra="forbid")

    origin: str | None = Field(None, max_length=300)
    """Such as http://127.0.0.1:7860; null: where this request came to."""


@router.get("/oauth/callback", response_class=HTMLResponse)
async def come_back(
    desk: Desk, state: Part = None, code: Part = None, error: Part = None, iss: Part = None
) -> HTMLResponse:
    """Where a server's sign-in page sends the browser back to. Each sign-in counts once."""
    answer = SignInAnswer(state=state or "", code=code, error=error, iss=iss)
    try:
        server = await desk.tools.finish_sign_in(answer)
    except DeskError as failure:
        status = 404 if isinstance(failure, NotFound) else 400
        return signed_in_page(
            "That did not work", f"{failure.message} {failure.hint}".strip(), status=status
        )
    return signed_in_page(*_how_it_is(server))


def _how_it_is(server: ToolServer) -> tuple[str, str]:
    """What became of it since the key came: somebody may have said no, or its tools are others."""
    name = server.name
    if not server.signed_in:
        why = f"Meanwhile {name} was signed out of, or is not trusted any more. No key was kept."
        return "You are not signed in", why
    if server.state == "ready":
        return "You are signed in", f"LM Desk can use {name} now."
    if server.state in ("idle", "asleep", "starting"):
        return "You are signed in", f"LM Desk can use {name} once it has started."
    more = f"{server.message} {server.hint}".strip()
    return "You are signed in", f"LM Desk cannot use {name} yet. {more}".strip()


@router.post("/{name}/sign-in")
async def sign_in(
    name: str, desk: Desk, request: Request, body: SignIn | None = None
) -> SignInPage:
    """Ask a remote server where to sign in. Open the answer's `url` in a browser within `seconds`."""
    here = f"{request.url.scheme}://{request.headers.get('host', '')}"
    origin = (body.origin if body else None) or request.headers.get("origin") or here
    return await desk.tools.sign_in(
        name, return_address(desk.configuration.settings, origin, here) + router.prefix + BACK
    )


@router.post("/{name}/sign-out")
async def sign_out(name: str, desk: Desk) -> ToolServer:
    """Throw away what signing in gave, and end it."""
    return await desk.tools.sign_out(name)


def return_address(settings: Settings, origin: str, here: str) -> str:
    """The API as the browser reaches it, if that is an address of this LM Desk's own.

    `here` is where the request came to. Raises BadParameter.
    """
    public = settings.public_url
    try:
        parts = urlsplit(origin)
        host = (parts.hostname or "").lower()
    except ValueError:
        parts, host = urlsplit(""), ""
    plain = parts.scheme in ("http", "https") and parts.netloc and parts.path in ("", "/")
    if public and host and host == urlsplit(public).hostname:
        return public.rstrip("/") + DOOR
    same = parts.netloc.lower() == urlsplit(here).netloc.lower()
    known = host in LOOPBACK_NAMES or host in settings.allowed_hosts or same
    if not plain or parts.username is not None or parts.query or parts.fragment or not known:
        raise BadParameter(
            f"A browser cannot come back to {origin[:200]!r}: that is not an address of this "
            "LM Desk.",
            hint="Behind a proxy, set LMDESK_PUBLIC_URL to its address.",
        )
    return f"{parts.scheme}://{parts.netloc}{DOOR}"
