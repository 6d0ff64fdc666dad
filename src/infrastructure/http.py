"""HTTP to neighbours: one careful client, its exceptions in our words, and the errors that hide in a 200."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import orjson
from pydantic import SecretStr

from core.errors import (
    BadParameter,
    ProviderProtocolError,
    ProviderTimeout,
    ProviderUnreachable,
)

# LM Studio closes idle connections after five seconds; a pooled one must not outlive that.
KEEPALIVE_SECONDS = 4.0
CONNECT_SECONDS = 3.0
# To one server. Answers hold theirs as long as they take; beyond this many a request waits for one.
MAX_CONNECTIONS = 1000
# The longest list of models seen is a few hundred kilobytes.
MAX_BODY_BYTES = 32 * 1024 * 1024
_API_SUFFIXES = ("/v1", "/api/v0", "/api/v1")


def new_client(token: SecretStr | None = None) -> aiohttp.ClientSession:
    """A client for one server; call it inside the running loop and close it.

    There is no total timeout, since answers and loads take as long as they take. Without a token
    no `Authorization` header is ever sent, and neither proxies nor `.netrc` are looked at.
    """
    headers = {"User-Agent": "lmdesk", "Accept-Encoding": "identity"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        trust_env=False,
        middlewares=(_stay,),
    )


async def _stay(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """The one request whose redirects aiohttp always follows must not carry our key elsewhere."""
    response = await handler(request)
    if response.status // 100 == 3 and aiohttp.hdrs.UPGRADE in request.headers:
        response.close()
        raise aiohttp.WSServerHandshakeError(
            response.request_info, (), status=response.status, message="redirected"
        )
    return response


def usable_token(token: SecretStr | None) -> SecretStr | None:
    """The token without surrounding blanks; None when nothing is left. Raises BadParameter."""
    text = token.get_secret_value().strip() if token is not None else ""
    if not text:
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadParameter("The API token contains characters that cannot be sent.")
    return SecretStr(text)


def clean_base_url(url: str) -> str:
    """The server's root: no trailing slash, API path, query or credentials. Raises BadParameter."""
    text = url.strip()
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadParameter(f"{url!r} is not an address.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise BadParameter(f"{url!r} is not an address.", hint="Try http://127.0.0.1:1234")
    path = parts.path.rstrip("/")
    # The longest first, so that /api/v1 does not leave /api behind.
    for suffix in sorted(_API_SUFFIXES, key=len, reverse=True):
        if path.endswith(suffix):
            path = path.removesuffix(suffix).rstrip("/")
            break
    name = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, name if port is None else f"{name}:{port}", path, "", ""))


class NotHttp(ProviderProtocolError):
    """Something answers that does not speak HTTP."""


@contextmanager
def provider_errors(who: str, *, url: str, hint: str = "") -> Generator[None]:
    """Turn the client's exceptions into ours; `who` opens the sentence."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise ProviderUnreachable(f"{who} does not answer at {url}.", hint=hint) from error
    except TimeoutError as error:
        raise ProviderTimeout(f"{who} did not answer in time at {url}.", hint=hint) from error
    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, OSError) as error:
        raise ProviderUnreachable(
            f"{who} closed the connection before its answer was complete.", hint=hint
        ) from error
    except (aiohttp.ClientError, ValueError) as error:
        raise NotHttp(
            f"What answers at {url} does not speak HTTP.",
            hint="Correct the address: another program listens there.",
        ) from error


class ServerError(NamedTuple):
    """An error as a server words it."""

    text: str
    type: str = ""
    code: str = ""

    @property
    def route_missing(self) -> bool:
        """LM Studio's answer, with status 200, to any route it does not have."""
        return self.text.startswith("Unexpected endpoint")


def check_body(body: object) -> ServerError | None:
    """The error inside a JSON body whatever its status was; None when there is none."""
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if error is None or error is False:
        return None
    if isinstance(error, dict):
        return ServerError(
            _text(error.get("message")) or _text(error.get("title")),
            _text(error.get("type")),
            _text(error.get("code")),
        )
    return ServerError(_text(error))


class Reply(NamedTuple):
    """A whole answer to a control call."""

    status: int
    body: Any
    """The parsed JSON; None when it is not JSON."""
    text: str
    """The beginning of the body."""
    error: ServerError | None
    retry_after: float | None = None
    """Seconds the server wants us to wait, where it says so in seconds."""

    @property
    def ok(self) -> bool:
        """A 2xx with JSON in which no error hides."""
        return self.status // 100 == 2 and self.error is None and self.body is not None

    @property
    def route_missing(self) -> bool:
        """The server does not have this route, in LM Studio's or in the usual words."""
        if self.error is not None and self.error.route_missing:
            return True
        # A 404 about a model is typed; one about a route is not.
        known = self.error is not None and (self.error.type or self.error.code)
        return self.status in (404, 405, 501) and not known

    @property
    def is_html(self) -> bool:
        """A web page, which no API route answers with."""
        return self.text.lstrip()[:1] == "<"


async def read_reply(response: aiohttp.ClientResponse) -> Reply:
    """Read a whole answer, up to a bound that no honest server reaches."""
    raw = bytearray()
    while chunk := await response.content.readany():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise ProviderProtocolError("The server's answer is too large to be a control answer.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    text = bytes(raw[:2000]).decode(errors="replace")
    error = check_body(body)
    if error is None and response.status >= 400:
        error = ServerError(_worded(body) or text)
    return Reply(response.status, body, text, error, _seconds(response.headers.get("Retry-After")))


def _seconds(value: str | None) -> float | None:
    """Not the form with a date, which no model server was seen to send."""
    return float(value) if value and value.strip().isdecimal() else None


def _worded(body: object) -> str:
    """The sentence in an error body of another dialect."""
    if not isinstance(body, dict):
        return ""
    return _text(body.get("message")) or _text(body.get("detail"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
