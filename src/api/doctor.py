"""What LM Desk finds on this machine: what is fine, what is wrong and what to do about it."""

import asyncio
import errno
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Literal

import httpx
from anyio import to_thread

from api.data_folder import require_writable
from api.security import SERVER_NAME
from api.settings import BadSetting, Settings
from api.wiring import open_probe, provider_diagnosis, starter_model
from core.providers import ProviderConfig
from core.value import Value

State = Literal["ok", "note", "attention"]

SUPPORTED: Final = ((3, 11), (3, 13))
LITTLE_SPACE: Final = 2 * 1024**3
IMPORT_SECONDS: Final = 60
LMSTUDIO: Final = "lmstudio"
PROVIDER: Final = "provider:"
# As a person reads them: the ground first, then who answers.
ORDER: Final = (
    "python",
    "data_folder",
    "disk_space",
    "port",
    LMSTUDIO,
    PROVIDER,
    "engine",
    "starter_model",
    "gpu",
)


class Finding(Value):
    """One thing that was looked at."""

    code: str
    """Stable, for programs: `python`, `data_folder`, `lmstudio`, `provider:work`, `engine` …"""
    title: str
    state: State
    message: str
    hint: str = ""
    command: str = ""
    """What to copy for that, as it is."""
    reason: str = ""
    """For providers: the diagnosis's own code, such as `not_running`."""


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything; takes seconds. Never raises for what it finds."""
    looks: list[Callable[[Settings], Awaitable[Finding]]] = [
        _python,
        _data_folder,
        _disk_space,
        _port,
        _engine,
        _starter_model,
        _gpu,
    ]
    found = await asyncio.gather(
        *(look(settings) for look in looks),
        *(_provider(config) for config in settings.provider_configs()),
    )
    findings = sorted(found, key=lambda finding: ORDER.index(_place(finding)))
    return [_weighed(finding, findings, settings) for finding in findings]


def _weighed(finding: Finding, findings: list[Finding], settings: Settings) -> Finding:
    """One that answers is enough; only without any provider and the engine is the desk empty."""
    if finding.state != "attention" or finding.code not in {"lmstudio", "engine", "starter_model"}:
        return finding
    well = {each.code for each in findings if each.state == "ok"}
    others = any(code == LMSTUDIO or code.startswith(PROVIDER) for code in well)
    if finding.code == LMSTUDIO:
        covered = others or (settings.embedded != "off" and "engine" in well)
    else:
        covered = others or settings.embedded == "off"
    return finding.model_copy(update={"state": "note"}) if covered else finding


async def _python(settings: Settings) -> Finding:
    version = sys.version.split()[0]
    if SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        return Finding(code="python", title="Python", state="ok", message=f"{version}.")
    return Finding(
        code="python",
        title="Python",
        state="attention",
        message=f"{version} is not one LM Desk is made for.",
        hint="Use Python 3.11, 3.12 or 3.13.",
    )


async def _data_folder(settings: Settings) -> Finding:
    try:
        await to_thread.run_sync(require_writable, settings.data_dir)
    except BadSetting as error:
        return Finding(
            code="data_folder",
            title="Data folder",
            state="attention",
            message=error.message,
            hint=error.hint,
        )
    message = f"{settings.data_dir} can be written."
    return Finding(code="data_folder", title="Data folder", state="ok", message=message)


async def _disk_space(settings: Settings) -> Finding:
    existing = next(
        path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists()
    )
    free = shutil.disk_usage(existing).free
    message = f"{free / 1024**3:.1f} GiB are free."
    if free >= LITTLE_SPACE:
        return Finding(code="disk_space", title="Disk", state="ok", message=message)
    return Finding(
        code="disk_space",
        title="Disk",
        state="attention",
        message=f"Only {message}",
        hint="Make room, or put the data folder elsewhere with LMDESK_DATA_DIR.",
    )


async def _port(settings: Settings) -> Finding:
    url, port = settings.url(), settings.port
    finding = Finding(code="port", title="Port", state="ok", message=f"{port} is free.")
    trouble = await to_thread.run_sync(_cannot_bind, settings.host, port)
    if trouble is None:
        return finding
    if trouble != errno.EADDRINUSE:
        return finding.model_copy(
            update={
                "state": "attention",
                "message": f"LM Desk may not listen on {settings.host}, port {port}.",
                "hint": "Use --host 127.0.0.1 and a port above 1023.",
            }
        )
    with suppress(httpx.HTTPError):
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            answer = await client.get(f"{url}/livez")
            if answer.headers.get("server") == SERVER_NAME:
                return finding.model_copy(update={"message": f"LM Desk runs at {url}."})
    return finding.model_copy(
        update={
            "state": "attention",
            "message": f"{port} is taken by another program.",
            "hint": f"End that program, or start LM Desk with --port {port + 1}.",
        }
    )


def _cannot_bind(host: str, port: int) -> int | None:
    """The error's number; None when the port can be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno or -1
    return None


async def _provider(config: ProviderConfig) -> Finding:
    found = await provider_diagnosis(config)
    well = found.state != "attention"  # without models it is the built-in engine that answers
    mine = config.name == LMSTUDIO
    return Finding(
        code=LMSTUDIO if mine else f"{PROVIDER}{config.name}",
        title="LM Studio" if mine else f"Provider {config.name}",
        state="ok" if well else "attention",
        message=found.message if well else " ".join(filter(None, (found.message, found.evidence))),
        hint=found.hint,
        command=found.command,
        reason=found.code,
    )


def _place(finding: Finding) -> str:
    return PROVIDER if finding.code.startswith(PROVIDER) else finding.code


async def _engine(settings: Settings) -> Finding:
    finding = Finding(
        code="engine", title="Built-in engine", state="ok", message="llama.cpp can be used."
    )
    if settings.embedded == "off":
        return finding.model_copy(update={"state": "note", "message": "It is switched off."})
    trouble = await to_thread.run_sync(_cannot_import_llama)
    if trouble is None:
        return finding
    hint = (
        "Install it: apt install libgomp1 (Fedora: dnf install libgomp)."
        if "libgomp" in trouble
        else "Reinstall LM Desk's packages; this kind of machine may have no ready-made llama.cpp."
    )
    message = f"llama.cpp cannot be used: {trouble}."
    return finding.model_copy(update={"state": "attention", "message": message, "hint": hint})


def _cannot_import_llama() -> str | None:
    """Tried in a process of its own: a wrong build may crash instead of raising."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import xllamacpp"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=IMPORT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error).rstrip(".")
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
    return last.rstrip(".")


async def _starter_model(settings: Settings) -> Finding:
    finding = Finding(code="starter_model", title="Starter model", state="ok", message="")
    path = await to_thread.run_sync(starter_model, settings.data_dir)
    if path is not None:
        return finding.model_copy(update={"message": f"It is at {path}."})
    return finding.model_copy(
        update={
            "state": "note",
            "message": "It is not on this machine yet.",
            "hint": "It is fetched when it is first used (93 MB).",
        }
    )


async def _gpu(settings: Settings) -> Finding:
    probe = open_probe(settings.data_dir)
    try:
        sample = await to_thread.run_sync(probe.sample)
    finally:
        probe.close()
    finding = Finding(code="gpu", title="GPU", state="ok", message=sample.driver.message)
    if sample.gpus:
        names = ", ".join(gpu.name for gpu in sample.gpus)
        broken = [gpu.message for gpu in sample.gpus if gpu.state != "ok"]
        message = " ".join([f"{names}.", *broken])
        return finding.model_copy(
            update={"message": message, "state": "attention" if broken else "ok"}
        )
    # A machine without an NVIDIA GPU is an ordinary one; a driver that fails is not.
    absent = sample.driver.state in {"ok", "no_driver", "no_library"}
    return finding.model_copy(update={"state": "note" if absent else "attention"})
