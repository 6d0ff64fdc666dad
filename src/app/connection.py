"""How the page's client travels: one connection to the API, answers as the core's types, refusals as its errors."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse
from pydantic import SecretStr, TypeAdapter

from app.refusals import ServerUnreachable, as_error

T = TypeVar("T")

# Our own loopback: slower than this means that the server hangs, not that the network is slow.
TIMEOUT = httpx.Timeout(15.0, connect=3.0)
# A stream ticks each second, so a minute of silence is a dead connection.
STREAM_TIMEOUT = httpx.Timeout(60.0, connect=3.0)
# uvicorn's servers close after five, and a request sent in that moment would be lost.
KEEPALIVE_SECONDS = 3.0


class Connection:
    """Talks to the API. Close it when done."""

    def __init__(
        self,
        base_url: str,
        *,
        token: SecretStr | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`base_url` is the server's root, such as `http://127.0.0.1:8000`."""
        headers = {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=TIMEOUT,
            trust_env=False,
            transport=transport,
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=32,
                keepalive_expiry=KEEPALIVE_SECONDS,
            ),
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _get(self, kind: type[T], path: str, **query: Any) -> T:
        response = await self._request("GET", path, params=known(query))
        return TypeAdapter(kind).validate_json(response.content)

    async def _send(self, kind: type[T], method: str, path: str, body: object, **options: Any) -> T:
        if body is not None:
            options["json"] = body
        response = await self._request(method, path, **options)
        return TypeAdapter(kind).validate_json(response.content)

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, f"/api/v1{path}", **options)
        except httpx.TransportError as error:
            raise ServerUnreachable() from error
        if response.is_error:
            raise as_error(response.status_code, response.content)
        return response

    async def _stream(self, path: str, **query: Any) -> AsyncGenerator[ServerSentEvent]:
        async with aconnect_sse(
            self._http, "GET", f"/api/v1{path}", params=query, timeout=STREAM_TIMEOUT
        ) as source:
            if source.response.is_error:
                raise as_error(source.response.status_code, await source.response.aread())
            async with aclosing(_closable(source.aiter_sse())) as events:
                async for event in events:
                    yield event


async def _closable(events: Any) -> AsyncGenerator[ServerSentEvent]:
    """The events again, as a generator that surely can be closed."""
    async for event in events:
        yield event


def known(values: dict[str, Any]) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}
