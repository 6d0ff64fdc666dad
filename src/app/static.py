"""The page's own files: served under a path that names their content, and linked in the page."""

import hashlib
import re
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASSETS = Path(__file__).parent / "assets"
STYLES = (
    "base",
    "layout",
    "sidebar",
    "conversation",
    "panels",
    "switching",
    "doctor",
    "downloads",
    "flight",
    "routing",
    "recipes",
    "compare",
    "loadsettings",
    "settings",
    "learned",
    "agents",
    "runs",
    "markdown",
    "toolservers",
    "phone",
)
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".woff2": "font/woff2",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# Gradio advertises itself to other sites in these.
FOREIGN_META = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*>\s*')
FOREVER = "public, max-age=31536000, immutable"


@cache
def version() -> str:
    """A short word that changes whenever one of the files does."""
    digest = hashlib.sha256()
    for path in sorted(ASSETS.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(ASSETS).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def asset_routes() -> APIRouter:
    """`/ui/assets/{version}/…`: kept by browsers for as long as the version is the current one."""
    router = APIRouter(include_in_schema=False)

    @router.get("/ui/assets/{asked}/{name:path}")
    async def asset(asked: str, name: str) -> Response:
        path = (ASSETS / name).resolve()
        kind = TYPES.get(path.suffix)
        if kind is None or not path.is_relative_to(ASSETS) or not path.is_file():
            return Response("There is no such file.", 404, media_type="text/plain")
        keep = FOREVER if asked == version() else "no-cache"
        return FileResponse(path, media_type=kind, headers={"cache-control": keep})

    return router


def head_html() -> bytes:
    """What goes before `</head>`. Addresses are relative, so a prefix does not matter."""
    base = f"./ui/assets/{version()}"
    lines = [
        "<title>LM Desk</title>",
        '<meta name="color-scheme" content="light dark">',
        f'<link rel="icon" href="{base}/icon.svg" type="image/svg+xml">',
        f'<link rel="preload" href="{base}/fonts/inter.woff2" as="font" type="font/woff2" crossorigin>',
        *(f'<link rel="stylesheet" href="{base}/css/{name}.css">' for name in STYLES),
        f'<script src="{base}/js/boot.js"></script>',
        f'<script type="module" src="{base}/js/main.js"></script>',
        "</head>",
    ]
    return "\n".join(lines).encode()


class HeadInjected:
    """An ASGI app whose page has our links in its head.

    Gradio's own `head=` is applied by a script after the page has started, which shows it unstyled
    for a moment and in the wrong theme.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or _path(scope) != "/":
            await self._app(scope, receive, send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        start: Message = {}
        body = b""

        async def collect(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                await _send_page(start, body, send, nonce=scope.get("csp_nonce"))

        await self._app({**scope, "headers": plain}, receive, collect)


def _path(scope: Scope) -> str:
    """The path below a proxy's prefix."""
    return str(scope["path"]).removeprefix(scope.get("root_path", "")) or "/"


async def _send_page(start: Message, body: bytes, send: Send, *, nonce: str | None) -> None:
    if "text/html" in Headers(raw=start["headers"]).get("content-type", ""):
        body = FOREIGN_META.sub(b"", body).replace(b"</head>", head_html(), 1)
        if nonce:
            # Gradio's own inline scripts, which a strict policy lets run only with this word.
            body = body.replace(b"<script", f'<script nonce="{nonce}"'.encode())
    dropped = {b"content-length", b"cache-control"}
    headers = [(name, value) for name, value in start["headers"] if name not in dropped]
    headers += [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": body})
