"""Looking closely at a server's address, and around it when nothing useful answers there."""

import asyncio
import errno
import re
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
from pydantic import ValidationError

from core.errors import DeskError, ProviderTimeout
from core.models import ModelInfo
from infrastructure.http import NotHttp, new_client, provider_errors, read_reply
from infrastructure.providers.health import HEALTH_SECONDS
from infrastructure.providers.lmstudio.finding_place import Place
from infrastructure.providers.lmstudio.listing import list_models
from infrastructure.providers.lmstudio.server import Server
from infrastructure.providers.lmstudio.wire import WireListOpenAI
from infrastructure.providers.problems import WrongServer

Knock = Literal["open", "refused", "silent", "no_route", "name_unknown"]
"""What a bare connection came to."""

KNOCK_SECONDS = 2.0
AROUND_SECONDS = 1.0
# Of several addresses of one name, the answer of the one that got furthest counts.
_BEST: tuple[Knock, ...] = ("open", "refused", "silent", "no_route", "name_unknown")
_NO_WAY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
_TOKEN = re.compile(r"sk-lm-[A-Za-z0-9]{8}:[A-Za-z0-9]{20}")


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything that was seen. `models` is None when no list could be had."""

    url: str
    host: str
    port: int
    place: Place
    knock: Knock
    models: tuple[ModelInfo, ...] | None = None
    jit_off: bool = False
    error: DeskError | None = None
    """Why there is no list."""
    late: bool = False
    """There is no list because it did not come in time."""
    token: Literal["none", "plausible", "malformed"] = "none"
    elsewhere: str = ""
    """Where an LM Studio's server answers instead."""
    program_runs: bool = False
    """LM Studio's program answers on its own port, which is not its server's."""
    latency_ms: float | None = None


async def look(server: Server, provider: str, place: Place) -> Sight:
    """See what is there, within four seconds. Never raises for what a server does."""
    parts = urlsplit(server.base_url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    started = time.monotonic()
    knocked, listed = await asyncio.gather(_knock(host, port), _list(server, provider))
    latency = (time.monotonic() - started) * 1000
    seen = Sight(server.base_url, host, port, place, knocked, token=_token_state(server))
    if isinstance(listed, tuple):
        return replace(
            seen,
            knock="open",
            models=listed,
            jit_off=await _jit_off(server, listed),
            latency_ms=latency,
        )
    seen = replace(seen, error=listed, late=listed is None or isinstance(listed, ProviderTimeout))
    if knocked == "open" and not isinstance(listed, WrongServer | NotHttp):
        return seen  # the right server, in trouble of its own
    found, program_runs = await _around(seen)
    return replace(seen, elsewhere=found, program_runs=program_runs)


async def _list(server: Server, provider: str) -> tuple[ModelInfo, ...] | DeskError | None:
    """The models, or the error; None when it took too long."""
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            return tuple(await list_models(server, provider))
    except TimeoutError:
        return None
    except DeskError as error:
        return error


async def _knock(host: str, port: int) -> Knock:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # includes TimeoutError: nobody knew the name in time
        return "name_unknown"
    addresses = {str(address[0]) for _, _, _, _, address in found}
    return _best(await asyncio.gather(*(_knock_at(each, port) for each in addresses)))


async def _knock_at(address: str, port: int) -> Knock:
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return "silent"
    except OSError as error:
        return "no_route" if error.errno in _NO_WAY else "refused"
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return "open"


def _best(knocks: Sequence[Knock]) -> Knock:
    return min(knocks, key=_BEST.index, default="name_unknown")


def _token_state(server: Server) -> Literal["none", "plausible", "malformed"]:
    if server.token is None:
        return "none"
    return "plausible" if _TOKEN.fullmatch(server.token.get_secret_value()) else "malformed"


async def _jit_off(server: Server, models: Iterable[ModelInfo]) -> bool:
    """Whether `/v1/models` shows loaded models only, which it does without just-in-time loading."""
    resting = {model.id for model in models if not model.loaded}
    if not resting or server.flavour not in ("api/v1", "api/v0"):
        return False
    try:
        reply = await server.get("/v1/models", seconds=AROUND_SECONDS)
        listed = WireListOpenAI.model_validate(reply.body) if reply.ok else None
    except (DeskError, ValidationError):
        return False
    return listed is not None and not resting & {model.id for model in listed.data}


async def _around(seen: Sight) -> tuple[str, bool]:
    """Where an LM Studio answers instead, if anywhere near; and whether its program runs here."""
    place, whose = seen.place, seen.place.whose(seen.host)
    hosts = [seen.host]
    if whose == "around" and not place.in_container:
        hosts = ["127.0.0.1"]
    elif whose == "ours" and place.in_container:
        hosts = [seen.host, *place.around[:1]]
    ports = dict.fromkeys((*place.usual_ports, seen.port))
    servers = [(host, port) for host in hosts for port in ports]
    servers = [each for each in servers if each != (seen.host, seen.port)]
    programs = [(seen.host, port) for port in place.program_ports] if whose == "ours" else []
    greeted = await asyncio.gather(*(_greets(*each) for each in (*servers, *programs)))
    urls = [_url(*each) for each, yes in zip(servers, greeted, strict=False) if yes]
    return urls[0] if urls else "", any(greeted[len(servers) :])


async def _greets(host: str, port: int) -> bool:
    """Whether an LM Studio answers there. It is asked without a token, which is for one address."""
    url = _url(host, port)
    try:
        async with asyncio.timeout(AROUND_SECONDS), new_client() as client:
            with provider_errors("It", url=url):
                async with client.get(
                    f"{url}/lmstudio-greeting", allow_redirects=False
                ) as response:
                    reply = await read_reply(response)
    except (TimeoutError, DeskError, aiohttp.ClientError):
        return False
    return reply.ok and isinstance(reply.body, dict) and reply.body.get("lmstudio") is True


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
