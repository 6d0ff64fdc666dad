"""What a server's error text means, in our errors."""

import re

from core.errors import (
    ContextTooLong,
    DeskError,
    LoadFailed,
    ModelCrashed,
    ModelNotFound,
    ModelUnloaded,
    NotEnoughMemory,
    ProviderNeedsToken,
    ProviderProtocolError,
    ProviderRejected,
)
from infrastructure.http import Reply, ServerError
from infrastructure.providers.lmstudio.wording import Wording

_OVERFLOW = re.compile(
    r"tokens to keep from the initial prompt|context (length|size|window)|context the overflows"
    r"|context overflow|exceeds? the (available|maximum) context|contextlengthreached",
    re.IGNORECASE,
)
_MEMORY = re.compile(
    r"insufficient system resources|guardrail|(not enough|out of|insufficient) (\w+ )?memory"
    r"|requires approximately .{1,20} of memory|failed to allocate|overload your system",
    re.IGNORECASE,
)
_LOAD = re.compile(r"failed to load|error loading model", re.IGNORECASE)
_UNKNOWN_MODEL = re.compile(
    r"invalid model identifier|not found in downloaded models|no models? (is |are )?loaded"
    r"|model .{0,200}not found",
    re.IGNORECASE,
)
_SECRET = re.compile(r"sk-[\w:*.-]+|(?<=token provided: )\S+")


def reply_problem(reply: Reply, wording: Wording) -> DeskError:
    """The error for an answer that is not `ok`."""
    if reply.is_html or reply.error is None:
        return ProviderProtocolError(
            f"{wording.who} sent something that is not an API answer.",
            hint="Check that the address is that of the server, not of a web page.",
        )
    return problem(reply.error, wording, status=reply.status)


def problem(error: ServerError, wording: Wording, *, status: int = 200) -> DeskError:
    """The error for what the server said; `status` is 200 inside a stream."""
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
            hint="Give the API token the permission in LM Studio's server settings.",
        )
    if "jinja" in error.text.lower():
        return ProviderRejected(
            f"The model's prompt template failed: {said}",
            hint="Choose another template in LM Studio, or another model.",
        )
    answered = "" if status < 400 else f" ({status})"
    return ProviderRejected(f"{wording.who} refused the request{answered}: {said}")


def needs_token(wording: Wording) -> ProviderNeedsToken:
    """The server's own text is left out: it repeats the beginning of the token it was given."""
    return ProviderNeedsToken(
        f"{wording.who} wants an API token, or another one.",
        hint="Create a token in LM Studio's server settings and put it into LM Desk's.",
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
