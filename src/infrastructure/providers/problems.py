"""What a server's error text means, in our errors; the dialects of all kinds of servers together."""

import re

from core.errors import (
    ContextTooLong,
    DeskError,
    LoadFailed,
    ModelCrashed,
    ModelNotFound,
    ModelUnloaded,
    NotEnoughMemory,
    ProviderBusy,
    ProviderFailed,
    ProviderNeedsToken,
    ProviderProtocolError,
    ProviderRejected,
)
from infrastructure.http import Reply, ServerError
from infrastructure.providers.wording import Wording

_OVERFLOW = re.compile(
    r"tokens to keep from the initial prompt|context (length|size|window)|context the overflows"
    r"|context overflow|exceeds? the (available|maximum) context|contextlengthreached",
    re.IGNORECASE,
)
_MEMORY = re.compile(
    r"insufficient system resources|guardrail|(not enough|out of|insufficient) (\w+ )?memory"
    r"|requires more (system )?memory|requires approximately .{1,20} of memory|failed to allocate|overload your system",
    re.IGNORECASE,
)
_LOAD = re.compile(r"failed to load|error loading model", re.IGNORECASE)
_UNKNOWN_MODEL = re.compile(
    r"invalid model identifier|not found in downloaded models|no models? (is |are )?loaded"
    r"|model .{0,200}not found",
    re.IGNORECASE,
)
NOT_IMPLEMENTED = 501
WAIT = "Try again in a moment."
_BUSY = (429, 503)
_SECRET = re.compile(r"sk-[\w:*.-]+|hf_\w{8,}|(?<=token provided: )\S+")


class WrongServer(ProviderProtocolError):
    """Something answers that is not what was configured. `looks_like` names it, if it is known."""

    looks_like = ""


def reply_problem(reply: Reply, wording: Wording) -> DeskError:
    """The error for an answer that is not `ok`."""
    if reply.status // 100 == 3:
        return ProviderProtocolError(
            f"{wording.who} sends us on to another address, which we do not follow.",
            hint="Configure the address it sends to.",
        )
    if reply.status in _BUSY and not reply.is_html:
        found = _by_text(reply.error or ServerError(""), quoted(reply.text), wording)
        return found or busy(reply, wording)
    if reply.status >= 500 and (reply.is_html or reply.error is None or not reply.error.text):
        return ProviderFailed(
            f"{wording.who} broke down over the request ({reply.status}).",
            hint=f"Look at {wording.it}'s log, or restart it.",
        )
    if reply.is_html or reply.error is None:
        return ProviderProtocolError(
            f"{wording.who} sent something that is not an API answer.",
            hint="Check that the address is that of the server, not of a web page.",
        )
    return problem(reply.error, wording, status=reply.status)


def problem(error: ServerError, wording: Wording, *, status: int = 200) -> DeskError:
    """The error for what the server said; `status` is 200 inside a stream."""
    if status < 400 and error.code.isdecimal():
        status = int(error.code)
    if status == 401 or error.code == "invalid_api_key":
        return needs_token(wording)
    said = quoted(error.text)
    found = _by_text(error, said, wording)
    if found is not None:
        return found
    if error.route_missing:
        return ProviderProtocolError(f"{wording.who} does not have this route: {said}")
    if status == 403:
        return ProviderRejected(
            f"{wording.who} does not permit this: {said}",
            hint=wording.permit,
        )
    if "jinja" in error.text.lower():
        return ProviderRejected(
            f"The model's prompt template failed: {said}",
            hint=wording.template,
        )
    answered = "" if status < 400 else f" ({status})"
    if status in _BUSY:
        return ProviderBusy(f"{wording.who} is busy{answered}: {said}", hint=WAIT)
    if status >= 500 and status != NOT_IMPLEMENTED:
        return ProviderFailed(
            f"{wording.who} broke down over the request{answered}: {said}",
            hint=f"Look at {wording.it}'s log, or restart it.",
        )
    return ProviderRejected(f"{wording.who} refused the request{answered}: {said}")


def busy(reply: Reply, wording: Wording) -> ProviderBusy:
    """The error for an answer that puts us off until later."""
    said = quoted(reply.error.text if reply.error else "")
    return ProviderBusy(
        f"{wording.who} is busy ({reply.status}): {said}",
        hint=WAIT,
        retry_after=reply.retry_after,
    )


def needs_token(wording: Wording) -> ProviderNeedsToken:
    """The server's own text is left out: it repeats the beginning of the token it was given."""
    return ProviderNeedsToken(
        f"{wording.who} wants an API token, or another one.",
        hint=wording.token,
    )


def quoted(text: str) -> str:
    """A foreign text made fit for a sentence: one line, bounded, without secrets."""
    line = " ".join(_SECRET.sub("[token]", text).split())
    return (line[:400] + "…") if len(line) > 400 else line or "no reason given"


def _by_text(error: ServerError, said: str, wording: Wording) -> DeskError | None:
    text = error.text
    if _MEMORY.search(text):
        return NotEnoughMemory(
            f"The model does not fit: {said}",
            hint="Unload another model, or pick a smaller one or a smaller context.",
        )
    # Before the codes: a failed just-in-time load comes with the code of an unknown model.
    if error.type == "model_load_failed" or _LOAD.search(text):
        return LoadFailed(f"{wording.who} could not load the model: {said}")
    if _OVERFLOW.search(text):
        return ContextTooLong(
            f"The conversation no longer fits the model's context: {said}",
            hint="Load the model with a larger context, or start a new chat.",
        )
    # Before the crash: "Model has unloaded or crashed.." is what an unload looks like.
    if "unloaded" in text.lower():
        return ModelUnloaded(
            f"The model was taken out of memory: {said}", hint="Load it again and ask again."
        )
    if "crashed" in text.lower():
        return ModelCrashed(f"The model crashed: {said}", hint="Load it again and ask again.")
    if "model_not_found" in (error.type, error.code) or _UNKNOWN_MODEL.search(text):
        return ModelNotFound(f"{wording.who} does not have this model: {said}")
    return None
