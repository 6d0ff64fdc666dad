"""Who may come in: the guard around the whole app, before any route sees the request.

Without a token only this machine may talk to LM Desk, under one of its loopback names; a foreign
name would mean that a page elsewhere pointed its own domain here (DNS rebinding). With a token,
programs send it as a Bearer header and browsers sign in once. In both cases a page of another
origin may not change anything, and every answer carries the headers that keep a browser strict.
"""

import hmac
import secrets
from collections.abc import Iterable
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import orjson
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.gateway.errors import refusal
from api.settings import Settings
from api.sign_in import COOKIE, MAX_AGE_SECONDS, bounce_page, pass_for, pass_is_good, sign_in_page

OPEN_PATHS = frozenset({"/livez", "/readyz"})
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_FORM_BYTES = 4096
SERVER_NAME = "lmdesk"
# Gradio compiles its HTML templates in the browser, hence 'unsafe-eval'.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    # Else browsers look up the hosts of links before anybody follows them, and a model can write in
    # the name of a host what it has read.
    "x-dns-prefetch-control": "off",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), payment=(), usb=()",
    "server": SERVER_NAME,
}
RAW_HEADERS = tuple(
    (name.encode(), value.encode())
    for name, value in {"content-security-policy": POLICY, **HEADERS}.items()
)
# In the scope: the server's own `send`, for an app that sets these headers itself.
UNGUARDED_SEND = "lmdesk.send"
GATEWAY = "/v1/"


def guarded(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The app behind the guard, as these settings want it."""
    hosts = set(settings.allowed_hosts)
    if settings.public_url:
        hosts.add(_host_name(settings.public_url))
    return Guard(app, token=settings.token, allowed_hosts=hosts)


class Guard:
    """An ASGI app that lets through to another one only what may pass."""

    def __init__(
        self, app: ASGIApp, *, token: SecretStr | None, allowed_hosts: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._token = token.get_secret_value() if token else None
        self._extra_hosts = frozenset(name.lower() for name in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        policy = POLICY
        if wants_page(scope):
            # Whoever makes the page may put this on the inline scripts that are its own.
            scope["csp_nonce"] = secrets.token_urlsafe(16)
            policy = POLICY.replace(
                " 'unsafe-eval'", f" 'unsafe-eval' 'nonce-{scope['csp_nonce']}'"
            )

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", policy)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = await self._refusal(scope, receive)
        if answer is None:
            scope[UNGUARDED_SEND] = send
            await self._app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, send_with_headers)

    async def _refusal(self, scope: Scope, receive: Receive) -> Response | None:
        """What to answer instead of the app; None lets the request through."""
        if scope.get("path") in OPEN_PATHS:
            return None
        headers = Headers(scope=scope)
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if self._token is None and not self._known_host(headers.get("host", "")):
            return problem_for(
                scope,
                421,
                "host_not_allowed",
                "LM Desk is not reached under this name.",
                "Open it at 127.0.0.1, or add the name to LMDESK_ALLOWED_HOSTS.",
            )
        if changes and not self._same_origin(headers):
            return problem_for(
                scope,
                403,
                "cross_origin",
                "A page of another address may not use LM Desk.",
                "Open LM Desk itself; behind a proxy, set LMDESK_PUBLIC_URL to its address.",
            )
        if self._token is None:
            return None
        if scope["type"] == "http":
            answer = await self._sign_in(Request(scope, receive))
            if answer is not None:
                return answer
        return None if self._has_pass(headers) else self._ask(scope, headers)

    def _known_host(self, host: str) -> bool:
        name = _host_name(f"//{host}")
        return name in LOOPBACK_NAMES or name in self._extra_hosts

    def _same_origin(self, headers: Headers) -> bool:
        """True for programs, which send no Origin, and for our own page."""
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site") not in {"cross-site", "same-site"}
        here = headers.get("host", "").lower()
        return origin.lower().partition("://")[2] == here or (
            _host_name(origin) in self._extra_hosts
        )

    def _has_pass(self, headers: Headers) -> bool:
        assert self._token is not None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(given.strip())
        cookies = Request({"type": "http", "headers": headers.raw}).cookies
        return pass_is_good(cookies.get(COOKIE, ""), self._token)

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _ask(self, scope: Scope, headers: Headers) -> Response:
        if wants_page(scope):
            # A link from another site arrives without our strict cookie, even for someone signed in;
            # a second request from our own page brings it.
            if headers.get("sec-fetch-site") == "cross-site":
                return bounce_page(_path_of(scope))
            return sign_in_page()
        given = "authorization" in headers
        answer = problem_for(
            scope,
            401,
            "token_wrong" if given else "token_required",
            "The token is not the one of this LM Desk." if given else "LM Desk needs its token.",
            "Send the header `Authorization: Bearer …` with the value of LMDESK_TOKEN.",
        )
        answer.headers["www-authenticate"] = "Bearer"
        return answer

    async def _sign_in(self, request: Request) -> Response | None:
        """The sign-in page, its form, the link with a token, and signing out."""
        path, method = request.url.path, request.method
        if path == "/login" and method == "POST":
            given = await _form_token(request)
            if given is None or not self._is_token(given):
                return sign_in_page(wrong=True)
            return self._let_in(request, "/")
        if path == "/login" and method in {"GET", "HEAD"}:
            return RedirectResponse("/", 303) if self._has_pass(request.headers) else sign_in_page()
        if path == "/logout" and method == "POST":
            answer = RedirectResponse("/login", 303)
            answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
            return answer
        if path == "/" and method == "GET" and "token" in request.query_params:
            if not self._is_token(request.query_params["token"]):
                return sign_in_page(wrong=True)
            return self._let_in(request, _path_of(request.scope))
        return None

    def _let_in(self, request: Request, target: str) -> Response:
        assert self._token is not None
        cross_site = request.headers.get("sec-fetch-site") == "cross-site"
        answer = bounce_page(target) if cross_site else RedirectResponse(target, 303)
        answer.headers["cache-control"] = "no-store"
        answer.set_cookie(
            COOKIE,
            pass_for(self._token),
            max_age=MAX_AGE_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer


def problem_for(scope: Scope, status: int, code: str, detail: str, hint: str) -> Response:
    """A `problem`; for a client of the gateway in the only shape it understands."""
    if not scope["path"].startswith(GATEWAY):
        return problem(status, code, detail, hint)
    refused = refusal(status, code, detail, hint=hint)
    return Response(refused.body, status, media_type="application/json")


def problem(status: int, code: str, detail: str, hint: str) -> Response:
    """An `application/problem+json` answer."""
    titles = {401: "Unauthorized", 403: "Forbidden", 421: "Misdirected Request"}
    body = {
        "type": "about:blank",
        "title": titles.get(status, "Service Unavailable"),
        "status": status,
        "code": code,
        "detail": detail,
        "hint": hint,
    }
    return Response(orjson.dumps(body), status, media_type="application/problem+json")


def wants_page(scope: Scope) -> bool:
    """Whether a browser is opening a page, rather than a program asking for data."""
    return (
        scope["type"] == "http"
        and scope["method"] in {"GET", "HEAD"}
        and "text/html" in Headers(scope=scope).get("accept", "")
    )


def _host_name(url: str) -> str:
    """The name in `//name:port`, lower case; empty when there is none."""
    try:
        split = urlsplit(url)
        # Raises for a port that is no number: `127.0.0.1:80.elsewhere.example` is no name of ours.
        return (split.hostname or "") if split.port != -1 else ""
    except ValueError:
        return ""


def _path_of(scope: Scope) -> str:
    """The address asked for, on this server, without a token in it."""
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"))
    kept = urlencode([(key, value) for key, value in query if key != "token"])
    # One slash only: `//elsewhere.example` would lead to another server.
    path = "/" + scope["path"].lstrip("/")
    return f"{path}?{kept}" if kept else path


async def _form_token(request: Request) -> str | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return None
    fields = parse_qs(body.decode("utf-8", "replace"))
    return fields.get("token", [""])[0].strip()
