"""The door itself: a plain ASGI app before the real one, that takes what is under `/v1`."""

import logging

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api.gateway import models
from api.gateway.answering import INTERNAL, Answering
from api.gateway.errors import Refusal, refusal, refusal_of
from api.gateway.reply import Reply
from api.gateway.request import ClientLeft, parsed, read_body
from api.services import Services
from core.errors import DeskError, MessageTooLong

log = logging.getLogger(__name__)

POST_ROUTES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
)
LIST = "/v1/models"
_CLOSE = (b"connection", b"close")


class Gateway:
    """Answers `/v1/…` itself and hands everything else on.

    Outside FastAPI: there each token would pass three coroutines more.
    """

    def __init__(self, inner: ASGIApp, app: FastAPI) -> None:
        """`app` has the services in its state while it lives."""
        self._inner = inner
        self._app = app
        self._models = models.ModelList()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            await self._serve(scope, receive, Reply(scope, send))
        else:
            await self._inner(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        try:
            await self._route(scope, receive, reply)
        except ClientLeft:
            return
        except MessageTooLong as error:
            refused = refusal_of(error)
            await reply.refuse(refused._replace(headers=(*refused.headers, _CLOSE)))
        except DeskError as error:
            await reply.refuse(refusal_of(error))
        except Exception:
            # The boundary: the client gets a sentence, the log has the trace.
            log.exception("a request to the gateway failed", extra={"path": scope["path"]})
            if not reply.started:
                await reply.refuse(INTERNAL)

    async def _route(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        path, method = scope["path"].rstrip("/"), scope["method"]
        desk: Services = self._app.state.services
        if path in POST_ROUTES:
            if method != "POST":
                await reply.refuse(_wrong_method(method, path, "POST"))
                return
            try:
                call = parsed(path, await read_body(scope, receive))
            except DeskError:
                self._app.state.meter.refused += 1
                raise
            await Answering(desk, self._app.state.meter, call, reply).run(receive)
        elif path != LIST and not path.startswith(LIST + "/"):
            await reply.refuse(_no_route(method, path))
        elif method not in ("GET", "HEAD"):
            await reply.refuse(_wrong_method(method, path, "GET"))
        elif path == LIST:
            await reply.whole(200, await self._models.raw(desk))
        else:
            await reply.whole(200, await models.one(desk, path.removeprefix(LIST + "/")))


def _wrong_method(method: str, path: str, right: str) -> Refusal:
    refused = refusal(
        405, "method_not_allowed", f"{method} is not for {path}.", hint=f"Use {right}."
    )
    return refused._replace(headers=((b"allow", right.encode()),))


def _no_route(method: str, path: str) -> Refusal:
    there = ", ".join((LIST, *POST_ROUTES))
    return refusal(404, "not_found", f"There is no {method} {path}.", hint=f"There are: {there}.")
