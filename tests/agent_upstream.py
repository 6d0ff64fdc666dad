"""A scripted model that uses tools, on a real socket: each request gets the turn its script says."""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.frames import DONE, chunk
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import Send, Watch, json_reply, part, start

PIECE = 7


@dataclass(frozen=True)
class Call:
    """A call as the server's own parser gives it."""

    name: str
    arguments: Any = field(default_factory=dict)
    """A dict, or the raw text of what should have been JSON."""

    @property
    def raw(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass
class Say:
    """One turn."""

    text: str | Sequence[str] = ""
    """Whole, or in the pieces in which it travels."""
    calls: Sequence[Call] = ()
    reasoning: str = ""
    status: int = 200
    error: Any = None
    """The body, with a status; in the stream, with 200."""
    model: str | None = None
    """Another name than the one that was asked."""
    finish: str | None = None
    drop: bool = False
    """The connection breaks off after the text."""
    unfinished: bool = False
    """The stream ends without an end."""
    hold: asyncio.Event | None = None
    """Waits for it after the text."""
    whole: bool = False
    """Does not stream."""
    usage: tuple[int, int] | None = (50, 10)


Script = Callable[[dict[str, Any]], Say]


def turns(*said: Say) -> Script:
    """One after the other, by how many answers the conversation has; the last one for ever."""

    def script(body: dict[str, Any]) -> Say:
        made = sum(message["role"] == "assistant" for message in body["messages"])
        return said[min(made, len(said) - 1)]

    return script


class AgentUpstream(ScriptedLMStudio):
    """An LM Studio whose models do as they are told."""

    def __init__(self, *keys: str, context: int = 8192, **options: Any) -> None:
        keys = keys or ("qwen/qwen3-4b",)
        models = [ScriptedModel(key, instances={key: context}) for key in keys]
        super().__init__(models=models, **options)
        self.scripts: dict[str, Script] = {}
        self.bodies: list[dict[str, Any]] = []

    def plays(self, *said: Say, model: str | None = None) -> None:
        """The script of a model, or of the first one."""
        self.scripts[model or next(iter(self.models))] = turns(*said)

    def last_result(self) -> str:
        """What the model got for its last call."""
        results = [m["content"] for m in self.bodies[-1]["messages"] if m["role"] == "tool"]
        return str(results[-1])

    async def _chat(self, body: dict[str, Any], watch: Watch, send: Send) -> None:
        self.bodies.append(body)
        if not await self._just_in_time(body, watch, send):
            return
        say = self.scripts[body["model"].partition(":")[0]](body)
        if say.status != 200:
            await json_reply(send, say.status, say.error or {"error": {"message": "boom"}})
        elif say.whole:
            await json_reply(send, 200, _whole(say, body["model"]))
        else:
            await self._stream(say, body["model"], watch, send)

    async def _stream(self, say: Say, asked: str, watch: Watch, send: Send) -> None:
        model = say.model or asked
        await start(send, "text/event-stream")
        for delta in _deltas(say):
            await part(send, chunk(delta, model=model))
            await asyncio.sleep(0)
        if say.error is not None:
            await part(send, b"data: " + orjson.dumps(say.error) + b"\n\n")
        if say.hold is not None and not await watch.unless_gone(say.hold):
            return
        if say.drop:
            raise ConnectionError("the script says so")
        for delta in _call_deltas(say.calls):
            await part(send, chunk(delta, model=model))
            await asyncio.sleep(0)
        if not say.unfinished:
            finish = say.finish or ("tool_calls" if say.calls else "stop")
            await part(send, chunk({}, model=model, finish_reason=finish))
            if say.usage is not None:
                await part(send, _usage(say.usage, model))
            await part(send, DONE)
        await part(send, b"", more=False)


def _deltas(say: Say) -> Iterable[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    if say.reasoning:
        yield {"reasoning_content": say.reasoning}
    pieces = [say.text] if isinstance(say.text, str) else say.text
    for piece in pieces:
        if piece:
            yield {"content": piece}


def _call_deltas(calls: Sequence[Call]) -> Iterable[dict[str, Any]]:
    for index, call in enumerate(calls):
        # As some servers do it: the ids start anew with each answer.
        head = {"name": call.name, "arguments": ""}
        yield {
            "tool_calls": [{"index": index, "id": str(index), "type": "function", "function": head}]
        }
        for first in range(0, len(call.raw), PIECE):
            piece = {"arguments": call.raw[first : first + PIECE]}
            yield {"tool_calls": [{"index": index, "function": piece}]}


def _usage(usage: tuple[int, int], model: str) -> bytes:
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return b"data: " + orjson.dumps({"model": model, "choices": [], "usage": counts}) + b"\n\n"


def _whole(say: Say, model: str) -> dict[str, Any]:
    text = say.text if isinstance(say.text, str) else "".join(say.text)
    calls = [
        {"id": str(n), "type": "function", "function": {"name": c.name, "arguments": c.raw}}
        for n, c in enumerate(say.calls)
    ]
    message = {"role": "assistant", "content": text, "tool_calls": calls}
    return {
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 50, "completion_tokens": 10},
    }
