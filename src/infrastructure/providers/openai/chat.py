"""A conversation continued over /v1/chat/completions."""

from collections.abc import Mapping
from typing import Any

from core.chat import Answered, ChatRequest, ChatStream, FinishReason
from core.errors import ContextTooLong, DeskError, ProviderProtocolError
from core.wire import WireLog
from infrastructure.http import Reply
from infrastructure.providers.openai.stream import AnswerReader
from infrastructure.providers.problems import problem, reply_problem
from infrastructure.providers.server import HttpServer, Stream
from infrastructure.providers.wording import Wording

_PATH = "/v1/chat/completions"
_REASONS: dict[str | None, FinishReason] = {"length": "length", "tool_calls": "tool_calls"}


async def stream_chat(
    server: HttpServer,
    request: ChatRequest,
    words: Wording,
    *,
    extras: Mapping[str, Any] | None = None,
) -> ChatStream:
    """The answer's events; the last one is Answered. Closing closes the connection at once.

    `extras` go into the body beside what was asked, for servers known to understand them.
    """
    body = payload(request) | dict(extras or {})
    stream, whole = await _begin(server, body, words, request.wire)
    reader = AnswerReader()
    try:
        if whole is not None:
            for event in reader.body(whole):
                yield event
        while not reader.done and (chunk := await stream.read()):
            for event in reader.feed(chunk):
                yield event
            _refuse(reader, words)
        for event in reader.end():
            yield event
        _refuse(reader, words)
        yield answered(reader, words)
    finally:
        stream.close()
        _note(request.wire, stream, reader)


def payload(request: ChatRequest) -> dict[str, Any]:
    """The request's body; what is None is left to the server."""
    wanted = request.parameters
    body: dict[str, Any] = {
        "model": request.instance_id or request.model_id,
        "messages": messages(request),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return body | wanted.model_dump(
        include={"temperature", "top_p", "top_k", "max_tokens"}, exclude_none=True
    )


def messages(request: ChatRequest) -> list[dict[str, Any]]:
    """The conversation, opened by the system prompt unless it has one of its own."""
    told = [{"role": m.role, "content": m.content} for m in request.messages]
    prompt = request.parameters.system_prompt
    if prompt and not (told and told[0]["role"] == "system"):
        told.insert(0, {"role": "system", "content": prompt})
    return told


def answered(reader: AnswerReader, words: Wording) -> Answered:
    """The last event, if the stream ended as a whole answer does; else raises."""
    usage = reader.usage or {}
    output = _count(usage, "completion_tokens")
    if not reader.said and not output:
        raise nothing_said(words, done=reader.done)
    if not reader.done and reader.finish_reason is None:
        raise cut_short(words)
    stats = {**reader.stats, **({"usage": usage} if usage else {})}
    return Answered(
        finish_reason=_REASONS.get(reader.finish_reason, "stop"),
        model_id=reader.model,
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=output,
        raw_stats=stats or None,
    )


def cut_short(words: Wording) -> ProviderProtocolError:
    """The error for a stream that ended before its answer did."""
    return ProviderProtocolError(
        f"{words.who} ended the answer in the middle, without saying why.",
        hint=f"Look at {words.it}'s log. What was written so far is kept.",
    )


def unreadable(words: Wording) -> ProviderProtocolError:
    """The error for a stream one piece of which came broken."""
    return ProviderProtocolError(
        f"{words.who} sent a piece of the answer that cannot be read.",
        hint="What was written before it is kept. Ask again.",
    )


def nothing_said(words: Wording, *, done: bool) -> DeskError:
    """The error for an answer without a word; `done` if the server calls it whole."""
    if done:
        # What llama.cpp models do in LM Studio when the prompt is longer than the context.
        return ContextTooLong(
            f"{words.who} ended the answer without a word. The conversation is probably longer"
            " than the model's context.",
            hint="Load the model with a larger context, or start a new chat.",
        )
    return ProviderProtocolError(
        f"{words.who} closed the stream without a word.", hint=f"Look at {words.it}'s log."
    )


async def _begin(
    server: HttpServer, body: dict[str, Any], words: Wording, wire: WireLog | None
) -> tuple[Stream, dict[str, Any] | None]:
    """The open stream, and the whole answer where the server does not stream it. Raises DeskError."""
    if wire is not None:
        wire.sent("POST", f"{server.base_url}{_PATH}", body)
    stream = await server.open(_PATH, body)
    try:
        if stream.is_events:
            return stream, None
        reply = await stream.reply()
        plainer = _without_refused(body, reply)
        if plainer is None:
            _note_reply(wire, reply)
            if reply.ok and isinstance(reply.body, dict):
                return stream, reply.body
            _note(wire, stream, AnswerReader())
            raise reply_problem(reply, words)
    except BaseException:
        stream.close()
        raise
    stream.close()
    return await _begin(server, plainer, words, wire)


def _without_refused(body: dict[str, Any], reply: Reply) -> dict[str, Any] | None:
    """The body as a stricter server wants it; None when that is not what it complains about."""
    if reply.status not in (400, 422) or reply.error is None:
        return None
    if "max_tokens" in body and "max_completion_tokens" in reply.error.text:
        plainer = {name: value for name, value in body.items() if name != "max_tokens"}
        return plainer | {"max_completion_tokens": body["max_tokens"]}
    if "stream_options" in f"{reply.error.text} {reply.text}":
        return {name: value for name, value in body.items() if name != "stream_options"}
    return None


def _note(wire: WireLog | None, stream: Stream, reader: AnswerReader) -> None:
    """The facts of the answer as the server put them, however it ended."""
    if wire is None:
        return
    failure = reader.failure
    wire.received(
        status=stream.status,
        **reader.head,
        finish_reason=reader.finish_reason,
        usage=reader.usage,
        **reader.stats,
        error=failure._asdict() if failure else None,
        complete=reader.done,
    )


def _note_reply(wire: WireLog | None, reply: Reply) -> None:
    """What came in the place of a stream, without an answer's text."""
    if wire is None:
        return
    if isinstance(reply.body, dict):
        wire.received(body={key: value for key, value in reply.body.items() if key != "choices"})
    else:
        wire.received(body=reply.text)


def _refuse(reader: AnswerReader, words: Wording) -> None:
    if reader.failure is not None:
        raise problem(reader.failure, words)
    if reader.unreadable:
        raise unreadable(words)


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) else None
