"""From the API's problem documents back to the core's errors."""

import json
from typing import Any

from core import errors
from core.errors import DeskError


class ServerUnreachable(DeskError):
    """Our own server does not answer."""

    code = "server_unreachable"

    def __init__(self) -> None:
        super().__init__(
            "LM Desk's server does not answer.", hint="The page keeps trying and goes on by itself."
        )


class OtherProblem(DeskError):
    """An error that the core does not know: of the API itself, or of a newer server."""

    def __init__(self, code: str, message: str, *, hint: str, parameter: object) -> None:
        super().__init__(message, hint=hint)
        self.code = code  # type: ignore[misc]
        self.parameter = parameter

    def extra(self) -> dict[str, object]:
        return {"parameter": self.parameter} if isinstance(self.parameter, str) else {}


class RefusedParameter(errors.BadParameter):
    """A value that cannot be, with the name of its field."""

    def __init__(self, message: str, *, hint: str, parameter: str) -> None:
        super().__init__(message, hint=hint)
        self.parameter = parameter

    def extra(self) -> dict[str, object]:
        return {"parameter": self.parameter}


def as_error(status: int, body: bytes) -> DeskError:
    """The error that an answer of this status and body speaks of."""
    problem = _parsed(body)
    code = str(problem.get("code") or f"http_{status}")
    message = str(problem.get("detail") or f"LM Desk's server answered with status {status}.")
    hint = str(problem.get("hint") or "")
    kind = _kinds().get(code)
    if kind is errors.ModelNotFound or kind is errors.ModelAmbiguous:
        return kind(message, hint=hint, candidates=problem.get("candidates") or ())
    if kind is errors.ModelInUse:
        return kind(message, hint=hint, chats=problem.get("chats") or ())
    parameter = problem.get("parameter")
    if kind is errors.BadParameter and isinstance(parameter, str):
        return RefusedParameter(message, hint=hint, parameter=parameter)
    if kind is None:
        return OtherProblem(code, message, hint=hint, parameter=parameter)
    return kind(message, hint=hint)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _kinds() -> dict[str, type[DeskError]]:
    """Every error of the core by its code; the most general one of a code wins."""
    found: dict[str, type[DeskError]] = {}
    waiting: list[type[DeskError]] = [DeskError]
    while waiting:
        kind = waiting.pop(0)
        if kind.__module__ == errors.__name__:
            found.setdefault(kind.code, kind)
            waiting.extend(kind.__subclasses__())
    return found
