"""An answer as a model's process streams it.

Always streamed, also for a client that wants it whole: closing a stream stops the generation at
once, closing a plain request does not.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from typing import Final

import aiohttp
import orjson

from core.errors import BadParameter, ContextTooLong, DeskError, ModelCrashed, ModelUnloaded
from infrastructure.engine.instance import Instance
from infrastructure.engine.wire import Json

DONE: Final = b"data: [DONE]\n\n"
_NO_LIMIT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10)
_EXIT_SECONDS: Final = 2.0


def new_session() -> aiohttp.ClientSession:
    """For all calls to our own processes: no proxy, no limit, no cookies.

    A connection for each call: llama.cpp closes them after a streamed answer without announcing it,
    and the next call on one would be lost when it comes in that moment.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=_NO_LIMIT,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


class Answer:
    """A streaming answer, open until the stack it was opened on closes."""

    def __init__(self, instance: Instance, response: aiohttp.ClientResponse, mark: object) -> None:
        self.instance = instance
        self._response = response
        self._mark = mark
        self._reading = True

    @classmethod
    async def open(
        cls,
        stack: AsyncExitStack,
        session: aiohttp.ClientSession,
        instance: Instance,
        path: str,
        body: Json,
    ) -> "Answer":
        """Ask. Raises a DeskError when the process refuses or is gone."""
        mark = object()
        instance.work[mark] = "processingPrompt"
        stack.callback(instance.work.pop, mark, None)
        try:
            response = await stack.enter_async_context(
                session.post(
                    instance.child.url + path,
                    data=orjson.dumps(body),
                    headers={**instance.child.headers, "Content-Type": "application/json"},
                )
            )
            if response.status != 200:
                raise refusal(instance, await response.read())
        except aiohttp.ClientError:
            raise await ended(instance) from None
        return cls(instance, response, mark)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Whole events, one or several at a time, up to and with `[DONE]`.

        Raises ModelCrashed or ModelUnloaded when the process ends before.
        """
        rest = b""
        try:
            async for data in self._response.content.iter_any():
                rest += data
                end = rest.rfind(b"\n\n")
                if end < 0:
                    continue
                whole, rest = rest[: end + 2], rest[end + 2 :]
                if self._reading and b'"prompt_progress"' not in whole:
                    self._reading = False
                    self.instance.work[self._mark] = "generating"
                yield whole
                if whole.endswith(DONE):
                    return
                if b'data: {"error"' in whole or whole.startswith(b"error:"):
                    return
        except (aiohttp.ClientError, ConnectionError):
            raise await ended(self.instance) from None
        raise await ended(self.instance)

    async def events(self) -> AsyncGenerator[Json]:
        """The data of each event, parsed; an error becomes a DeskError."""
        async for chunk in self.chunks():
            for line in chunk.split(b"\n"):
                if line.startswith(b"data: ") and line != b"data: [DONE]":
                    data: Json = orjson.loads(line[6:])
                    if "error" in data:
                        raise refusal(self.instance, line[6:])
                    yield data


async def exchange(
    session: aiohttp.ClientSession, instance: Instance, path: str, body: Mapping[str, object]
) -> Json:
    """One short question to a model's process. Raises a DeskError."""
    try:
        async with session.post(
            instance.child.url + path, json=body, headers=instance.child.headers
        ) as response:
            raw = await response.read()
    except aiohttp.ClientError:
        raise await ended(instance) from None
    if response.status != 200:
        raise refusal(instance, raw)
    answer: Json = orjson.loads(raw)
    return answer


def refusal(instance: Instance, raw: bytes) -> DeskError:
    """What llama.cpp's error means."""
    try:
        error = orjson.loads(raw).get("error", {})
    except (orjson.JSONDecodeError, AttributeError):
        error = {}
    if not isinstance(error, dict):
        error = {"message": str(error)}
    message = str(error.get("message") or "The model refused the request.")
    if error.get("type") == "exceed_context_size_error":
        asked, limit = error.get("n_prompt_tokens"), error.get("n_ctx")
        return ContextTooLong(
            "The number of tokens to keep from the initial prompt is greater than the context "
            "length. Try to load the model with a larger context length, or provide a shorter "
            f"input (the prompt has {asked} tokens, the model {instance.id} has room for {limit})."
        )
    if "is too large to process" in message:
        return ContextTooLong(message)
    if "image input is not supported" in message:
        return BadParameter(f"Model {instance.id} does not support images.")
    return BadParameter(message)


async def ended(instance: Instance) -> DeskError:
    """Why a model's process no longer answers."""
    child = instance.child
    try:
        async with asyncio.timeout(_EXIT_SECONDS):
            await child.exited.wait()
    except TimeoutError:
        return ModelCrashed("Model has unloaded or crashed..")
    if instance.unloaded:
        return ModelUnloaded("Model has unloaded or crashed.. It was unloaded while answering.")
    reason = child.complaint()
    because = f"with this reason: {reason}" if reason else "without additional information."
    return ModelCrashed(f"The model has crashed {because} (Exit code: {child.exit_code})")
