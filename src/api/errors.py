"""From the core's errors to HTTP: one table, one shape (`application/problem+json`, RFC 9457)."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.field_words import field_of, words_of
from core import errors
from core.tool_server import ToolCommandRefused

log = logging.getLogger(__name__)

# The nearest ancestor in the table decides.
STATUS: dict[type[errors.DeskError], int] = {
    errors.DeskError: 500,
    errors.RequestError: 400,
    errors.NotFound: 404,
    errors.ModelAmbiguous: 409,
    errors.NoModelFits: 422,
    errors.MessageEmpty: 422,
    errors.MessageTooLong: 413,
    errors.BadParameter: 422,
    errors.Conflict: 409,
    ToolCommandRefused: 403,
    errors.ContextTooLong: 413,
    errors.ProviderError: 502,
    errors.ProviderUnreachable: 503,
    errors.ProviderTimeout: 504,
    errors.ProviderBusy: 503,
    errors.ProviderNeedsToken: 502,
    errors.ToolError: 502,
    errors.ToolTimeout: 504,
    errors.NotEnoughMemory: 507,
    errors.StorageError: 507,
}
BY_CODE: dict[str, int] = {}


def status_of(error: errors.DeskError) -> int:
    """The status of an error: that of its class, or of the class whose code it took over."""
    if error.code != type(error).code:
        return _status_by_code().get(error.code, 500)
    return _status_of_class(type(error))


def _status_of_class(cls: type[errors.DeskError]) -> int:
    return next(STATUS[c] for c in cls.__mro__ if c in STATUS)


def _status_by_code() -> dict[str, int]:
    if not BY_CODE:
        pending = [errors.DeskError]
        while pending:
            cls = pending.pop()
            BY_CODE[cls.code] = _status_of_class(cls)
            pending.extend(cls.__subclasses__())
    return BY_CODE


def problem(
    status: int, code: str, detail: str, *, hint: str = "", extra: dict[str, Any] | None = None
) -> JSONResponse:
    """A problem document."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "hint": hint,
        **(extra or {}),
    }
    return JSONResponse(body, status, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every error in our shape."""

    @app.exception_handler(errors.DeskError)
    async def desk_error(request: Request, error: errors.DeskError) -> JSONResponse:
        status = status_of(error)
        if status >= 500:
            log.warning("request failed: %s", error.code, extra={"path": request.url.path})
        return problem(status, error.code, error.message, hint=error.hint, extra=error.extra())

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = field_of(first)
        if first["type"] == "json_invalid":
            return problem(400, "bad_json", "The body is not valid JSON.", hint="Check its syntax.")
        return problem(
            422,
            "bad_parameter",
            words_of(first),
            hint="See /docs for what this call takes.",
            extra={"parameter": where or None},
        )

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        detail = f"{error.detail}: {request.method} {request.url.path}."
        return problem(error.status_code, code, detail, hint="See /docs for what there is.")

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.error("unforeseen error", exc_info=error, extra={"path": request.url.path})
        return problem(
            500,
            "internal",
            "Something went wrong inside LM Desk.",
            hint="The log has the details. Trying again may help.",
        )
