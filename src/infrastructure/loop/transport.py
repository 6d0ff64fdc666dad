"""RunTransport: the loop's HTTP client believes it talks to a server; it talks to the run."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import httpx2
import orjson

from core import running_plan
from core.errors import DeskError, ProviderProtocolError, ProviderRejected
from core.ports import RawAnswer
from core.retries import wait_before, worth_retrying
from core.runs_errors import RunOver, ToolsRefused
from core.runs_ports import LoopHost, LoopSpec
from infrastructure.loop.polish import Polish
from infrastructure.loop.reader import CallReader, PlainReader
from infrastructure.loop.request import prepared
from infrastructure.loop.schema_mode import as_answer_request
from infrastructure.loop.schema_reply import SchemaReply
from infrastructure.loop.tags import TextCalls
from infrastructure.loop.upstream import broken_off, refusal

# What older or stricter servers do not know.
SPARED = ("stream_options", "repeat_penalty", "top_k")
EVENT_STREAM = "text/event-stream"
MAX_LINE_BYTES = 8 * 1024 * 1024
MAX_WHOLE_BYTES = 32 * 1024 * 1024


class RunTransport(httpx2.AsyncBaseTransport):
    """Each request is one step of the run."""

    def __init__(self, spec: LoopSpec, host: LoopHost) -> None:
        self._spec = spec
        self._host = host
        self._unknown: set[str] = set()
        """Parameters that the server refused; the answer is the same without them."""
        self._newest: dict[str, Any] = {}
        """What the loop sent last."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer's first word is there when this returns."""
        body = orjson.loads(await request.aread())
        self._newest = body
        try:
            self._host.begin()
            try:
                stream = await self._asked(self._prepared(body), _schemas(body))
            except ToolsRefused as error:
                if self._spec.schema_mode or not self._spec.may_change_mode:
                    raise
                self._host.goes_to_schema(error.message)
                self._spec = self._spec._replace(schema_mode=True)
                stream = await self._asked(self._prepared(body), _schemas(body))
        except (DeskError, RunOver) as error:
            self._host.failed(error)
            raise
        return httpx2.Response(200, headers={"content-type": EVENT_STREAM}, stream=stream)

    async def last_word(self, question: str) -> None:
        """Ask once more, without tools; the run hears the answer. Raises DeskError."""
        messages = [*self._newest["messages"], {"role": "user", "content": question}]
        body = prepared({"messages": messages}, self._spec)
        if self._spec.schema_mode:
            body = as_answer_request(body)
        try:
            # Calls it still makes are kept out of its words.
            stream = await self._asked(body, _schemas(self._newest))
            try:
                async for _ in stream:
                    pass
            finally:
                await stream.aclose()
        except DeskError as error:
            self._host.failed(error)
            raise

    def _prepared(self, body: dict[str, Any]) -> dict[str, Any]:
        if self._spec.plan and not self._host.offers_plan:
            body = {**body, "tools": [each for each in body["tools"] if not _is_plan(each)]}
        return prepared(body, self._spec)

    async def _asked(self, body: dict[str, Any], tools: Mapping[str, Any]) -> "_Answer":
        for attempt in count(1):
            try:
                return await self._ask(body, tools)
            except ProviderRejected as error:
                refused = {name for name in SPARED if name in error.message} - self._unknown
                if not refused:
                    raise
                self._unknown |= refused
            except DeskError as error:
                if attempt > self._host.attempts or not worth_retrying(error):
                    raise
                await asyncio.sleep(wait_before(attempt, error))
        raise AssertionError("the last attempt returns or raises")

    async def _ask(self, body: dict[str, Any], tools: Mapping[str, Any]) -> "_Answer":
        body = {name: value for name, value in body.items() if name not in self._unknown}
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(self._host.ask(body))
            if answer.status >= 400:
                raise await refusal(answer)
            spare = TextCalls(tools) if tools else PlainReader()
            polish = Polish(self._host, lambda: self._reader(tools), spare)
            stream = _Answer(answer, polish, self._host)
            await stream.open()
            # What fails from here on is the stream's own matter.
            stream.held = stack.pop_all()
        return stream

    def _reader(self, tools: Mapping[str, Any]) -> CallReader:
        if not tools:
            return PlainReader()
        return SchemaReply(tools) if self._spec.schema_mode else TextCalls(tools)


class _Answer(httpx2.AsyncByteStream):
    """A polished answer as a body; closing it gives back what it holds."""

    def __init__(self, answer: RawAnswer, polish: Polish, host: LoopHost) -> None:
        self._answer = answer
        self._polish = polish
        self._host = host
        self._rest = b""
        self._over = False
        self._told = False
        self.held = AsyncExitStack()

    async def open(self) -> None:
        """Read up to the first word. Raises DeskError."""
        if not self._answer.headers.get("content-type", "").startswith(EVENT_STREAM):
            await self._whole()
            return
        while not self._polish.said and not self._over:
            await self._more()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while not self._over:
                if piece := self._polish.taken():
                    yield piece
                await self._more()
            if not self._told:  # the loop's client reads what is read once more, to drain it
                self._told = True
                yield self._polish.end()
        except DeskError as error:
            self._host.failed(error)
            raise

    async def aclose(self) -> None:
        """Close the connection, which stops the model."""
        await self.held.aclose()

    async def _more(self) -> None:
        chunk = await self._answer.read()
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for line in lines if chunk else [*lines, self._rest]:
            self._polish.line(line)
        if self._polish.done:
            self._over = True
        elif not chunk:
            if not self._polish.complete:
                raise broken_off()
            self._over = True
        elif len(self._rest) > MAX_LINE_BYTES:
            raise ProviderProtocolError("The stream has a line without an end.")

    async def _whole(self) -> None:
        """From a server that does not stream."""
        raw = bytearray()
        while chunk := await self._answer.read():
            raw += chunk
            if len(raw) > MAX_WHOLE_BYTES:
                raise ProviderProtocolError("The answer is too large.")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict) or not ("choices" in body or "error" in body):
            raise ProviderProtocolError("The provider sent something that is no answer.")
        self._polish.frame(body)
        self._over = True


def _is_plan(tool: Mapping[str, Any]) -> bool:
    return bool(tool.get("function", {}).get("name") == running_plan.NAME)


def _schemas(body: Mapping[str, Any]) -> dict[str, Any]:
    """What each tool in the request takes, by name."""
    functions = [tool.get("function", {}) for tool in body.get("tools") or ()]
    return {each["name"]: each.get("parameters") or {} for each in functions if "name" in each}
