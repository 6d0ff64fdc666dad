"""A conversation continued over /v1/chat/completions."""

from typing import Any

from core.chat import Answered, ChatRequest, ChatStream, FinishReason
from core.errors import ContextTooLong, DeskError, ProviderProtocolError
from core.models import ProviderKind
from core.wire import WireLog
from infrastructure.http import Reply
from infrastructure.providers.lmstudio.problems import problem, reply_problem
from infrastructure.providers.lmstudio.server import Server
from infrastructure.providers.lmstudio.wording import Wording
from infrastructure.providers.openai.stream import AnswerReader
from infrastructure.providers.server import Stream

_PATH = "/v1/chat/completions"
_REASONS: dict[str | None, FinishReason] = {"length": "length", "tool_calls": "tool_calls"}


async def stream_chat(server: Server, request: ChatRequest, kind: ProviderKind) -> ChatStream:
    """The answer's events; the last one is Answered. Closing closes the connection at once."""
    body = payload(request, kind)
    if request.wire is not None:
        request.wire.sent("POST", f"{server.base_url}{_PATH}", body)
    stream = await server.open(_PATH, body)
    reader = AnswerReader()
    try:
        if not stream.is_events:
            reply = await stream.reply()
            _note_reply(request.wire, reply)
            if not reply.ok or not isinstance(reply.body, dict):
                raise reply_problem(reply, server.wording)
            for event in reader.body(reply.body):
                yield event
        else:
            while not reader.done and (chunk := await stream.read()):
                for event in reader.feed(chunk):
                    yield event
                _refuse(reader, server.wording)
        for event in reader.end():
            yield event
        _refuse(reader, server.wording)
        yield answered(reader, server.wording)
    finally:
        stream.close()
        _note(request.wire, stream, reader)


def payload(request: ChatRequest, kind: ProviderKind) -> dict[str, Any]:
    """The request's body; what is None is left to the server."""
    wanted = request.parameters
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    if wanted.system_prompt and not (messages and messages[0]["role"] == "system"):
        messages.insert(0, {"role": "system", "content": wanted.system_prompt})
    body: dict[str, Any] = {
        "model": request.instance_id or request.model_id,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= wanted.model_dump(
        include={"temperature", "top_p", "top_k", "max_tokens"}, exclude_none=True
    )
    if kind == "embedded":
        # llama.cpp's own word; whether LM Studio would put up with it is not known.
        body["return_progress"] = True
    return body


def answered(reader: AnswerReader, wording: Wording) -> Answered:
    """The last event, if the stream ended as a whole answer does; else raises."""
    usage = reader.usage or {}
    output = _count(usage, "completion_tokens")
    if not reader.said and not output:
        raise _nothing_said(reader, wording)
    if not reader.done and reader.finish_reason is None:
        raise ProviderProtocolError(
            f"{wording.who} ended the answer in the middle, without saying why.",
            hint=f"Look at {wording.it}'s log. What was written so far is kept.",
        )
    stats = {**reader.stats, **({"usage": usage} if usage else {})}
    return Answered(
        finish_reason=_REASONS.get(reader.finish_reason, "stop"),
        model_id=reader.model,
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=output,
        raw_stats=stats or None,
    )


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


def _nothing_said(reader: AnswerReader, wording: Wording) -> DeskError:
    if reader.done:
        # What llama.cpp models do in LM Studio when the prompt is longer than the context.
        return ContextTooLong(
            f"{wording.who} ended the answer without a word. The conversation is probably longer"
            " than the model's context.",
            hint="Load the model with a larger context, or start a new chat.",
        )
    return ProviderProtocolError(
        f"{wording.who} closed the stream without a word.", hint=f"Look at {wording.it}'s log."
    )


def _refuse(reader: AnswerReader, wording: Wording) -> None:
    if reader.failure is not None:
        raise problem(reader.failure, wording)


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) else None
