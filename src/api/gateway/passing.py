"""Passing a provider's answer on to the client: untouched, whole events at a time, and looked at."""

import time

from api.gateway.errors import event_of
from api.gateway.meter import Counts
from api.gateway.reply import Reply
from api.gateway.request import Call
from api.gateway.tap import Tap, has_end, has_token, usage_of, whole_events
from api.gateway.upstream import (
    MAX_HELD_BYTES,
    as_error,
    broken_off,
    content_type_of,
    error_event,
    hidden_error,
    is_events,
    read_up_to,
    refused,
)
from core.errors import DeskError, ProviderProtocolError
from core.gate import Passage
from core.ports import RawAnswer

# Events of a size that no server sends; what is larger goes on as it comes.
MAX_EVENT_BYTES = 4 * 1024 * 1024
# An answer that has no token after so many events is of a kind not known here.
MAX_HELD_EVENTS = 6
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")


class Passing:
    """One answer of one provider on its way. Raises DeskError before the first byte went out."""

    def __init__(
        self,
        call: Call,
        answer: RawAnswer,
        reply: Reply,
        *,
        who: str,
        counts: Counts,
        passage: Passage,
    ) -> None:
        self._call = call
        self._answer = answer
        self._reply = reply
        self._who = who
        self._counts = counts
        self._passage = passage
        self._rest = b""

    async def run(self) -> bool:
        """Pass all of it on; whether it was complete."""
        if self._answer.status >= 400:
            raise await refused(self._answer, self._who, self._call.path)
        if is_events(self._answer):
            return await self._events()
        return await self._whole()

    async def _whole(self) -> bool:
        raw, complete = await read_up_to(self._answer, MAX_HELD_BYTES)
        if hidden_error(raw):
            raise as_error(self._answer.status, raw, self._who, self._call.path)
        self._first_byte()
        if self._reply.started:  # with signs of life, as a stream
            raise ProviderProtocolError(f"{self._who} did not stream its answer.")
        kind = content_type_of(self._answer)
        if complete:
            self._counts.tokens(usage_of(raw))
            await self._reply.whole(self._answer.status, raw, kind)
            return True
        await self._reply.start(self._answer.status, kind)
        while raw:
            await self._reply.piece(raw)
            raw = await self._answer.read()
        await self._reply.end()
        return True

    async def _events(self) -> bool:
        tap = Tap()
        try:
            chunk = await self._first_events()
            self._first_byte()
            if not self._reply.started:
                await self._reply.start(200, content_type_of(self._answer))
            read, send, take = self._answer.read, self._reply.send, tap.take
            while chunk:
                take(chunk)
                # What `piece` does, without its coroutine: this is done for every token.
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await read()
                if self._rest or not chunk.endswith(_EVENT_ENDS):
                    chunk = await self._rounded(chunk)
            if not tap.complete and not has_end(self._rest):
                raise broken_off(self._who)
        except DeskError as error:
            if not self._reply.started:
                raise
            # Too late for a status: the stream's last event says it.
            await self._reply.end(event_of(error))
            return False
        finally:
            self._counts.tokens(tap.usage())
        await self._reply.end(self._rest)
        return True

    async def _first_events(self) -> bytes:
        """The events up to the first token: until then another model could still take over."""
        held = b""
        while True:
            chunk = await self._rounded(await self._answer.read())
            held += chunk
            if (error := error_event(held)) is not None:
                raise as_error(200, error, self._who, self._call.path)
            if not chunk and not has_end(held):
                raise broken_off(self._who)
            if not chunk or has_token(held) or held.count(b"data: ") > MAX_HELD_EVENTS:
                return held

    async def _rounded(self, chunk: bytes) -> bytes:
        """Whole events, with what was left of an earlier one; empty at the end.

        So that one which breaks off in its middle never reaches the client.
        """
        while chunk:
            chunk, self._rest = self._rest + chunk, b""
            if chunk.endswith(_EVENT_ENDS) or len(chunk) > MAX_EVENT_BYTES:
                return chunk
            cut = whole_events(chunk)
            chunk, self._rest = chunk[:cut], chunk[cut:]
            if chunk:
                return chunk
            chunk = await self._answer.read()
        return b""

    def _first_byte(self) -> None:
        self._passage.first_byte()
        self._counts.first_byte_after(time.monotonic() - self._reply.began)
