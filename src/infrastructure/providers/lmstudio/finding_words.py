"""What a sight of an address means, in one sentence with one thing to do about it."""

import time
from typing import NamedTuple

import aiohttp

from core.diagnosis import Diagnosis, DiagnosisCode, DiagnosisState
from core.errors import ProviderNeedsToken
from core.models import ProviderKind
from infrastructure.http import NotHttp
from infrastructure.providers.lmstudio.finding import Sight
from infrastructure.providers.lmstudio.finding_place import DEFAULT_PORT
from infrastructure.providers.problems import WrongServer

INTO_ENV = "Put this line into .env, then start LM Desk again."
EXTRA_HOSTS = 'extra_hosts:\n  - "host.docker.internal:host-gateway"'
SETTINGS = "Developer → Server Settings"


class Finding(NamedTuple):
    """The part of a diagnosis that depends on what was seen."""

    code: DiagnosisCode
    message: str
    evidence: str = ""
    hint: str = ""
    command: str = ""
    state: DiagnosisState = "attention"


def conclude(seen: Sight, provider: str, kind: ProviderKind) -> Diagnosis:
    """The diagnosis. It never holds the token, not even a part."""
    found = _finding(seen)
    wrong = isinstance(seen.error, WrongServer) and seen.error.looks_like
    return Diagnosis(
        provider=provider,
        kind=kind,
        url=seen.url,
        **found._asdict(),
        looks_like=wrong or "",
        latency_ms=seen.latency_ms,
        checked_at=time.time(),
    )


def _finding(seen: Sight) -> Finding:
    if seen.models is not None:
        return _answers(seen, len(seen.models), sum(model.loaded for model in seen.models))
    match seen.knock:
        case "open":
            return _open(seen)
        case "refused":
            return _refused(seen)
        case "name_unknown":
            return _name_unknown(seen)
        case "no_route":
            return _no_route(seen)
        case "silent":
            return _silent(seen)


def _answers(seen: Sight, count: int, loaded: int) -> Finding:
    models = "1 model" if count == 1 else f"{count} models"
    if not count:
        return Finding(
            "no_models",
            "LM Studio answers, and has no models.",
            hint="Download one: Discover in LM Studio, or this command.",
            command="lms get",
            state="note",
        )
    if seen.jit_off:
        return Finding(
            "jit_off",
            f"LM Studio is ready with {models}. Just-in-time loading is off there.",
            f"Its /v1/models leaves out the {count - loaded} that are not loaded.",
            f"LM Desk loads models itself. For other programs switch it on: {SETTINGS}.",
            state="ok",
        )
    return Finding("ready", f"LM Studio is ready with {models}.", state="ok")


# -- something takes the connection ---------------------------------------------------------------


def _open(seen: Sight) -> Finding:
    error = seen.error
    if seen.late or error is None:
        return _slow(seen)
    if isinstance(error, ProviderNeedsToken):
        return _token(seen)
    if isinstance(error.__cause__, aiohttp.ClientSSLError):
        return Finding(
            "not_http",
            f"What answers at {seen.url} does not speak HTTPS, or not with a certificate to trust.",
            hint=f"LM Studio speaks plain HTTP. {INTO_ENV}",
            command=f"LMDESK_LMSTUDIO_URL={seen.url.replace('https://', 'http://', 1)}",
        )
    if isinstance(error, WrongServer | NotHttp):
        code: DiagnosisCode = "not_http" if isinstance(error, NotHttp) else "wrong_server"
        return _instead(seen) or Finding(code, error.message, *_beside(seen))
    return Finding("trouble", error.message, hint=error.hint)


def _slow(seen: Sight) -> Finding:
    ours = seen.place.whose(seen.host) == "ours" and not seen.place.in_container
    return Finding(
        "slow",
        f"LM Studio takes connections at {seen.url}, but does not answer in time.",
        hint="A busy server gets there by itself; if it does not, start it anew.",
        command="lms server stop\nlms server start" if ours else "",
    )


def _token(seen: Sight) -> Finding:
    command = "LMDESK_LMSTUDIO_TOKEN=sk-lm-…"
    if seen.token == "none":
        return Finding(
            "needs_token",
            "LM Studio wants an API token, and none is set.",
            "It answers 401.",
            f"Make a token in LM Studio ({SETTINGS}). {INTO_ENV}",
            command,
        )
    shape = (
        " The token has not the form of one of LM Studio's." if seen.token == "malformed" else ""
    )
    return Finding(
        "wrong_token",
        "LM Studio does not take the API token that is set.",
        f"It answers 401.{shape}",
        f"Make a new one in LM Studio ({SETTINGS}). {INTO_ENV}",
        command,
    )


def _beside(seen: Sight) -> tuple[str, str, str]:
    """Evidence, hint and command where a stranger sits at the address."""
    whose = seen.place.whose(seen.host)
    if whose == "ours" and seen.place.in_container:
        url = f"http://{seen.place.around[0]}:{DEFAULT_PORT}"
        around = f"LM Studio is on the machine around this container. {INTO_ENV}"
        return "", around, f"LMDESK_LMSTUDIO_URL={url}"
    port = DEFAULT_PORT + 1 if seen.port == DEFAULT_PORT else DEFAULT_PORT
    start = "Start LM Studio's server on a port of its own: it is found there."
    command = f"lms server start --port {port}"
    if whose == "ours":
        return "", start, command
    return "", f"On that machine: {start[0].lower()}{start[1:]}", f"{command} --bind 0.0.0.0"


# -- nothing does ---------------------------------------------------------------------------------


def _refused(seen: Sight) -> Finding:
    where = _netloc(seen.host, seen.port)
    evidence = f"The connection to {where} was refused."
    if (instead := _instead(seen)) is not None:
        return instead._replace(evidence=evidence)
    port = "" if seen.port == DEFAULT_PORT else f" --port {seen.port}"
    start = f"lms server start{port}"
    whose = seen.place.whose(seen.host)
    if whose != "ours":
        contained = " LM Desk runs in a container." if seen.place.in_container else ""
        return Finding(
            "loopback_only" if whose == "around" else "remote_refused",
            f"Nothing answers at {where}: LM Studio is off, or listens to its own machine only.",
            evidence + contained,
            "Run this on that machine, or start the server there with “Serve on Local Network”.",
            f"{start} --bind 0.0.0.0",
        )
    if seen.program_runs:
        return Finding(
            "server_off",
            "LM Studio runs, but its server is switched off.",
            f"{evidence} LM Studio's program answers.",
            "Switch it on: Developer → Start server, or this command.",
            start,
        )
    if seen.place.in_container:
        around = f"http://{seen.place.around[0]}:{seen.port}"
        return Finding(
            "loopback_in_container",
            f"Nothing listens at {where}: in a container that is the container itself.",
            f"{evidence} LM Desk runs in a container.",
            f"LM Studio is on the machine around it. {INTO_ENV}",
            f"LMDESK_LMSTUDIO_URL={around}",
        )
    return Finding(
        "not_running",
        f"LM Studio's server does not run: nothing listens at {where}.",
        evidence,
        "Start it: Developer → Start server, or this command.",
        start,
    )


def _instead(seen: Sight) -> Finding | None:
    if not seen.elsewhere:
        return None
    return Finding(
        "found_elsewhere",
        f"LM Studio answers at {seen.elsewhere}, not at {seen.url}.",
        seen.error.message if isinstance(seen.error, WrongServer) else "",
        INTO_ENV,
        f"LMDESK_LMSTUDIO_URL={seen.elsewhere}",
    )


def _name_unknown(seen: Sight) -> Finding:
    if (instead := _instead(seen)) is not None:
        return instead._replace(evidence=f"The name {seen.host} is unknown here.")
    message = f"The name {seen.host} is unknown here."
    around = seen.place.whose(seen.host) == "around"
    if around and seen.place.in_container:
        return Finding(
            "name_unknown",
            message,
            "LM Desk runs in a container.",
            "Add this to its service in docker-compose.yml, then start it again.",
            EXTRA_HOSTS,
        )
    evidence = "Only containers know that name." if around else ""
    url = f"http://127.0.0.1:{seen.port if around else DEFAULT_PORT}"
    return Finding(
        "name_unknown",
        message,
        evidence,
        f"Correct the address. {INTO_ENV}",
        f"LMDESK_LMSTUDIO_URL={url}",
    )


def _no_route(seen: Sight) -> Finding:
    return Finding(
        "no_route",
        f"There is no way from here to {seen.host}.",
        "The network says that it cannot be reached.",
        "Join its network (Wi-Fi, cable, VPN), or switch that machine on.",
    )


def _silent(seen: Sight) -> Finding:
    where = _netloc(seen.host, seen.port)
    if seen.place.whose(seen.host) == "ours":
        return Finding(
            "slow",
            f"What listens at {where} takes no connections any more.",
            "A connection on this machine was neither taken nor refused.",
            "Start LM Studio's server anew.",
            "" if seen.place.in_container else "lms server stop\nlms server start",
        )
    return Finding(
        "firewall",
        f"Nothing comes back from {where}, not even a refusal.",
        "A firewall drops what we send, or that machine is off or asleep.",
        f"Switch that machine on, and let port {seen.port} through its firewall.",
    )


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
