"""`POST /api/v1/chat`: an answer with everything that leads to it, loading included."""

import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from core.errors import DeskError, LoadFailed, ModelNotFound, NotEnoughMemory
from infrastructure.engine import selection, wire
from infrastructure.engine.answers import Gathered
from infrastructure.engine.bodies import ChatBody, checked
from infrastructure.engine.catalogue import Model
from infrastructure.engine.desk import Desk, told
from infrastructure.engine.instance import Instance
from infrastructure.engine.upstream import Answer
from infrastructure.engine.wire import Handler, Json, named_event

_STORED: Final = 256

Messages = tuple[Json, ...]


class Threads:
    """The latest stored conversations, by the id of their last answer. In memory only."""

    def __init__(self) -> None:
        self._messages: OrderedDict[str, Messages] = OrderedDict()

    def keep(self, messages: Messages) -> str:
        """The id under which they can be continued."""
        response_id = f"resp_{secrets.token_hex(24)}"
        self._messages[response_id] = messages
        while len(self._messages) > _STORED:
            self._messages.popitem(last=False)
        return response_id

    def get(self, response_id: str) -> Messages | None:
        return self._messages.get(response_id)


@dataclass
class _Talk:
    """One request on its way to an answer."""

    desk: Desk
    threads: Threads
    body: ChatBody
    found: Instance | Model
    messages: Messages
    stack: AsyncExitStack
    got: Gathered = field(default_factory=Gathered)
    load_seconds: float | None = None

    @property
    def id(self) -> str:
        """Of the instance that answers, or will."""
        return self.found.id if isinstance(self.found, Instance) else self.found.key

    async def events(self) -> AsyncGenerator[bytes]:
        """All of it, in LM Studio's order; an error is the last event."""
        try:
            async with aclosing(self._ready()) as ready:
                async for data in ready:
                    yield data
            async with aclosing(self._answer()) as answer:
                async for data in answer:
                    yield data
            yield named_event("chat.end", result=self._result())
        except DeskError as error:
            yield named_event("error", error=wire.as_native(error).body["error"])

    async def whole(self) -> Json:
        """Only the result. Raises DeskError."""
        async with aclosing(self._ready()) as ready:
            async for _ in ready:
                continue
        async with aclosing(self._answer()) as answer:
            async for _ in answer:
                continue
        return self._result()

    async def _ready(self) -> AsyncGenerator[bytes]:
        """Have an instance and hold it."""
        if isinstance(self.found, Instance):
            await self.stack.enter_async_context(self.desk.pool.using(self.found))
            yield named_event("chat.start", model_instance_id=self.id)
            return
        model = self.found
        wish = self.desk.wish_on_demand(context_length=self.body.context_length)
        load = self.desk.pool.begin(model, wish)
        name = load.instance_id
        started = time.monotonic()
        async with aclosing(load.follow()) as steps:
            yield named_event("chat.start", model_instance_id=name)
            yield named_event("model_load.start", model_instance_id=name)
            try:
                async for step in steps:
                    yield named_event(
                        "model_load.progress",
                        model_instance_id=name,
                        progress=step.fraction,
                        stage=step.stage,
                    )
            except (LoadFailed, NotEnoughMemory) as error:
                raise told(error, f"Failed to load LLM '{model.key}': Error: ") from None
            self.found = load.instance
            await self.stack.enter_async_context(self.desk.pool.using(self.found))
        self.load_seconds = round(time.monotonic() - started, 3)
        yield named_event(
            "model_load.end", model_instance_id=name, load_time_seconds=self.load_seconds
        )

    async def _answer(self) -> AsyncGenerator[bytes]:
        if not isinstance(self.found, Instance):
            raise LoadFailed("The model was not loaded.")
        self.got = Gathered()
        yield named_event("prompt_processing.start")
        asked = _upstream_body(self.body, self.found.id, self.messages)
        answer = await Answer.open(
            self.stack, self.desk.session, self.found, "/v1/chat/completions", asked
        )
        block = "prompt_processing"
        async for data in answer.events():
            if read := data.get("prompt_progress"):
                done = read["processed"] / max(1, read["total"])
                yield named_event("prompt_processing.progress", progress=round(done, 4))
            self.got.add(data)
            for kind, content in _pieces(data):
                if block != kind:
                    yield named_event(f"{block}.end")
                    yield named_event(f"{kind}.start")
                    block = kind
                yield named_event(f"{kind}.delta", content=content)
        yield named_event(f"{block}.end")

    def _result(self) -> Json:
        got = self.got
        output = [
            {"type": kind, "content": content}
            for kind, content in (("reasoning", got.reasoning), ("message", got.content))
            if content
        ]
        usage = got.usage_block()
        stats: Json = {
            "input_tokens": usage["prompt_tokens"],
            "total_output_tokens": usage["completion_tokens"],
            "reasoning_output_tokens": got.reasoning_tokens,
            "tokens_per_second": got.timings.get("predicted_per_second", 0.0),
            "time_to_first_token_seconds": round(
                (got.first_token or time.monotonic()) - got.started, 4
            ),
        }
        if self.load_seconds is not None:
            stats["model_load_time_seconds"] = self.load_seconds
        result: Json = {"model_instance_id": self.id, "output": output, "stats": stats}
        if self.body.store:
            said = {"role": "assistant", "content": got.content}
            result["response_id"] = self.threads.keep((*self.messages, said))
        return result


def chat(desk: Desk) -> Handler:
    """The route."""
    threads = Threads()

    async def handle(request: Request) -> Response:
        body = checked(ChatBody, await wire.body_of(request, wire.native))
        async with AsyncExitStack() as stack:
            try:
                found = await _find(desk, body)
                talk = _Talk(desk, threads, body, found, _messages(body, threads), stack)
                if body.stream:
                    owned = stack.pop_all()
                    talk.stack = owned
                    return wire.EventStream(talk.events(), owned)
                return wire.reply(await wire.unless_gone(request, talk.whole()))
            except DeskError as error:
                raise wire.as_native(error) from None

    return handle


async def _find(desk: Desk, body: ChatBody) -> Instance | Model:
    """Like `/v1`, but an unknown name is always unknown."""
    models = await desk.models()
    known = desk.pool.get(body.model) or selection.find(body.model, models)
    if known is None:
        raise ModelNotFound(selection.unknown(body.model, models))
    found = desk.choose(body.model, "llm", models)
    model = found.model if isinstance(found, Instance) else found
    if body.integrations:
        error = wire.native(
            "Permission denied to use plugins. This server has none.",
            param="integrations",
            status=403,
        )
        raise error
    if body.reasoning not in (None, "off") and not model.header.thinks:
        raise wire.native(
            f"Model {model.key} does not support the reasoning setting.", param="reasoning"
        )
    has_image = isinstance(body.input, list) and any(i.type == "image" for i in body.input)
    if has_image and model.projector is None:
        raise wire.native(f"Model {model.key} does not support images.", param="input")
    return found


def _messages(body: ChatBody, threads: Threads) -> Messages:
    before: Messages = ()
    if body.previous_response_id:
        stored = threads.get(body.previous_response_id)
        if stored is None:
            raise wire.native(
                f"Response {body.previous_response_id} is not stored here.",
                param="previous_response_id",
            )
        before = stored
    elif body.system_prompt:
        before = ({"role": "system", "content": body.system_prompt},)
    content: str | list[Any] = body.input if isinstance(body.input, str) else []
    if isinstance(body.input, list):
        content = [
            {"type": "image_url", "image_url": {"url": item.data_url or ""}}
            if item.type == "image"
            else {"type": "text", "text": item.content or ""}
            for item in body.input
        ]
        if all(part["type"] == "text" for part in content):
            content = "\n".join(part["text"] for part in content)
    return (*before, {"role": "user", "content": content})


def _upstream_body(body: ChatBody, instance_id: str, messages: Messages) -> Json:
    asked: Json = {
        "model": instance_id,
        "messages": list(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
    }
    for name in ("temperature", "top_p", "top_k", "min_p", "repeat_penalty"):
        if (value := getattr(body, name)) is not None:
            asked[name] = value
    if body.max_output_tokens:
        asked["max_tokens"] = body.max_output_tokens
    if body.reasoning:
        asked["chat_template_kwargs"] = {"enable_thinking": body.reasoning != "off"}
    return asked


def _pieces(data: Json) -> list[tuple[str, str]]:
    """What a chunk says: (`reasoning` or `message`, text)."""
    pieces = []
    for choice in data.get("choices", ()):
        delta = choice.get("delta") or {}
        if thought := delta.get("reasoning_content"):
            pieces.append(("reasoning", thought))
        if said := delta.get("content"):
            pieces.append(("message", said))
    return pieces
