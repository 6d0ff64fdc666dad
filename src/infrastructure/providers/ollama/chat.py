"""A conversation continued over Ollama's own /api/chat, which alone keeps the model as it was loaded."""

from typing import Any

from core.chat import ChatRequest, ChatStream
from core.errors import ProviderProtocolError
from infrastructure.providers.ollama.stream import AnswerReader
from infrastructure.providers.openai.chat import cut_short, messages, nothing_said, unreadable
from infrastructure.providers.problems import problem, reply_problem
from infrastructure.providers.server import HttpServer
from infrastructure.providers.wording import Wording

PATH = "/api/chat"
_OK = 200


async def stream_chat(
    server: HttpServer, request: ChatRequest, words: Wording, *, kept: dict[str, Any]
) -> ChatStream:
    """The answer's events; the last one is Answered. Closing closes the connection at once.

    `kept` is how the model was loaded: Ollama loads it anew for a request that says otherwise.
    """
    body = payload(request, kept)
    if request.wire is not None:
        request.wire.sent("POST", f"{server.base_url}{PATH}", body)
    stream = await server.open(PATH, body)
    reader = AnswerReader()
    try:
        if stream.status != _OK:
            reply = await stream.reply()
            if request.wire is not None:
                request.wire.received(body=reply.body if reply.body is not None else reply.text)
            raise reply_problem(reply, words)
        while not reader.done and (chunk := await stream.read()):
            for event in reader.feed(chunk):
                yield event
            _refuse(reader, words)
        for event in reader.end():
            yield event
        _refuse(reader, words)
        _whole(reader, words)
        yield reader.answered()
    finally:
        stream.close()
        if request.wire is not None:
            failure = reader.failure
            request.wire.received(
                status=stream.status,
                model=reader.model,
                **reader.stats,
                error=failure._asdict() if failure else None,
                complete=reader.done,
            )


def payload(request: ChatRequest, kept: dict[str, Any]) -> dict[str, Any]:
    """The request's body; what is None is left to the server."""
    wanted = request.parameters
    options = wanted.model_dump(include={"temperature", "top_p", "top_k"}, exclude_none=True)
    if wanted.max_tokens is not None:
        options["num_predict"] = wanted.max_tokens
    return {
        **kept,
        "model": request.instance_id or request.model_id,
        "messages": messages(request),
        "stream": True,
        # Else the beginning of a long conversation is dropped, and nobody is told.
        "truncate": False,
        "shift": False,
        "options": kept.get("options", {}) | options,
    }


def _whole(reader: AnswerReader, words: Wording) -> None:
    """Raises unless the stream ended as a whole answer does."""
    if reader.strange and not reader.said:
        raise ProviderProtocolError(
            f"{words.who} sent {reader.strange} lines that are no part of an answer.",
            hint="It may be something that only resembles Ollama: try its OpenAI API instead.",
        )
    if not reader.said and not reader.stats.get("eval_count"):
        raise nothing_said(words, done=reader.done)
    if not reader.done:
        raise cut_short(words)


def _refuse(reader: AnswerReader, words: Wording) -> None:
    if reader.failure is not None:
        raise problem(reader.failure, words)
    if reader.unreadable:
        raise unreadable(words)
