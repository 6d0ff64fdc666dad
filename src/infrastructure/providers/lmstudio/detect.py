"""Which API a server has, found out by the shape of its answers: statuses lie and versions mislead."""

import re

from core.errors import ProviderProtocolError
from infrastructure.http import Reply
from infrastructure.providers.lmstudio.server import Flavour, Server
from infrastructure.providers.lmstudio.wire import WireListOpenAI, WireListV0, WireListV1
from infrastructure.providers.problems import WrongServer, needs_token, reply_problem
from infrastructure.providers.shapes import fits

PROBE_SECONDS = 2.0
_OWNERS = {"library": "Ollama", "llamacpp": "llama.cpp's llama-server", "vllm": "vLLM"}


async def detect(server: Server) -> Flavour:
    """The best API the server has; remembered until it stops answering.

    Raises WrongServer, ProviderNeedsToken or another ProviderError.
    """
    if server.flavour is None:
        server.flavour = await _probe(server)
    return server.flavour


async def _probe(server: Server) -> Flavour:
    greeting = await server.get("/lmstudio-greeting", seconds=PROBE_SECONDS)
    greeted = isinstance(greeting.body, dict) and greeting.body.get("lmstudio") is True

    v1 = await _ask(server, "/api/v1/models", greeted=greeted)
    if v1.ok and fits(WireListV1, v1.body):
        return "api/v1"
    v0 = await _ask(server, "/api/v0/models", greeted=greeted)
    if v0.ok and fits(WireListV0, v0.body):
        return "api/v0"
    openai = await _ask(server, "/v1/models", greeted=greeted)
    # Its answer to unknown routes gives even an LM Studio without a greeting away.
    family = greeted or any(r.error is not None and r.error.route_missing for r in (v1, v0))
    if not family:
        stranger = await _stranger(server, openai)
        if stranger is not None:
            error = WrongServer(
                f"{stranger} answers at {server.base_url}, not {server.wording.it}.",
                hint="Correct the address, or configure it as a provider of its own kind.",
            )
            error.looks_like = stranger
            raise error
    if openai.ok and fits(WireListOpenAI, openai.body):
        return "v1"
    raise _unreadable(server, next((r for r in (v1, v0, openai) if not r.route_missing), openai))


async def _ask(server: Server, path: str, *, greeted: bool) -> Reply:
    reply = await server.get(path, seconds=PROBE_SECONDS)
    # A refusal means that the route is there: no falling back to an older API.
    if reply.status == 401 or (reply.error is not None and reply.error.code == "invalid_api_key"):
        raise needs_token(server.wording)
    if greeted and reply.status >= 500:
        raise reply_problem(reply, server.wording)
    return reply


async def _stranger(server: Server, openai: Reply) -> str | None:
    """What it looks like; None when it may well be an old or cut-down LM Studio."""
    listed = openai.ok and fits(WireListOpenAI, openai.body)
    if listed:
        owners = {m.owned_by for m in WireListOpenAI.model_validate(openai.body).data}
        for owner, name in _OWNERS.items():
            if owner in owners:
                return name
    root = await server.get("/", seconds=PROBE_SECONDS)
    if "Ollama is running" in root.text:
        return "Ollama"
    props = await server.get("/props", seconds=PROBE_SECONDS)
    if isinstance(props.body, dict) and "default_generation_settings" in props.body:
        return "llama.cpp's llama-server"
    if listed:
        return None
    page = next((reply for reply in (root, openai) if reply.is_html), None)
    return _page(page) if page is not None else "Another program"


def _page(reply: Reply) -> str:
    title = re.search(r"<title[^>]*>([^<]{1,80})", reply.text, re.IGNORECASE)
    return f"A web page ({' '.join(title[1].split())})" if title else "A web page"


def _unreadable(server: Server, reply: Reply) -> ProviderProtocolError:
    who, url = server.wording.who, server.base_url
    if reply.route_missing:
        return WrongServer(
            f"What answers at {url} has none of the routes that list models.",
            hint=f"Check that this is {server.wording.it}'s server.",
        )
    return ProviderProtocolError(f"{who} answers at {url}, but its list of models is unreadable.")
