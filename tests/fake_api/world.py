"""What the fake API remembers, and a past to look at."""

import time
import uuid
from typing import Any

from core.agents import Agent
from core.builtin_agents import BUILTIN_AGENTS
from core.chats import Chat, Message, ModelTruth, Problem, TurnStats
from core.jobs import JobService
from core.models import Capabilities, Instance, ModelInfo

ANSWER = """Coalescing works because the browser paints at most 60 times a second, so sending 200 \
updates is wasted work.

### The idea
1. Collect tokens as they arrive
2. Flush on a **50 ms** timer
3. Send *only* the live message

```python
async def coalesce(tokens, hz=20):
    buf, last = "", 0.0
    async for t in tokens:
        buf += t
        if time.monotonic() - last >= 1 / hz:
            yield buf  # one update
            buf, last = "", time.monotonic()
    if buf:
        yield buf
```

| approach | lag p95 | browser CPU |
|---|---|---|
| every token | 36 s | 100 % |
| coalesced | 67 ms | 78 % |
| split + coalesced | 82 ms | 48 % |

Anything above `20 Hz` is invisible to the reader, and the rest of the page stays responsive.
"""


THOUGHT = (
    "The person asks about updates. I should say why many small updates cost so much, then show"
    " a short function, then numbers. A table makes the difference plain."
)


class World:
    """Everything the fake remembers. `rate` is tokens a second."""

    def __init__(self, *, rate: float = 60.0, load_seconds: float = 4.0) -> None:
        self.rate = rate
        self.load_seconds = load_seconds
        self.gpus = 1
        self.embedded = False
        self.thinks = True
        self.fail_next: Problem | None = None
        self.jobs = JobService()
        self.agents: dict[str, Agent] = {agent.id: agent for agent in BUILTIN_AGENTS}
        self.models: dict[str, ModelInfo] = {model.full_name: model for model in _models()}
        self.chats: dict[str, Chat] = {}
        self.messages: dict[str, dict[str, Message]] = {}
        self.chat_revisions: dict[str, int] = {}
        self.models_revision = 1
        self.chats_revision = 1
        self.requests: list[tuple[str, str, Any]] = []

    def touch(self, chat_id: str) -> None:
        self.chat_revisions[chat_id] = self.chat_revisions.get(chat_id, 0) + 1
        self.chats_revision += 1

    def new_chat(self, *, title: str = "", age_days: float = 0.0, **more: Any) -> Chat:
        at = time.time() - age_days * 86400
        chat = Chat(id=uuid.uuid4().hex, title=title, created_at=at, updated_at=at, **more)
        self.chats[chat.id] = chat
        self.messages[chat.id] = {}
        self.touch(chat.id)
        return chat

    def put(self, message: Message) -> None:
        self.messages[message.chat_id][message.id] = message
        self.touch(message.chat_id)

    def branch(self, chat: Chat) -> list[Message]:
        messages = self.messages[chat.id]
        found = []
        at = chat.head_id
        while at is not None:
            message = messages[at]
            siblings = [m.id for m in messages.values() if m.parent_id == message.parent_id]
            found.append(message.model_copy(update={"siblings": tuple(siblings)}))
            at = message.parent_id
        return found[::-1]

    def set_model(self, name: str, **changes: Any) -> None:
        self.models[name] = self.models[name].model_copy(update=changes)
        self.models_revision += 1

    def change_chat(self, chat_id: str, **changes: Any) -> Chat:
        self.chats[chat_id] = self.chats[chat_id].model_copy(update=changes)
        self.touch(chat_id)
        return self.chats[chat_id]


def _models() -> list[ModelInfo]:
    return [
        ModelInfo(
            id="qwen/qwen2.5-7b",
            provider="lmstudio",
            name="Qwen2.5 7B Instruct",
            state="loaded",
            instances=(Instance(id="qwen/qwen2.5-7b", context_length=8192),),
            size_bytes=4_680_000_000,
            quantization="Q4_K_M",
            parameters="7B",
            context_length=32768,
            capabilities=Capabilities(tools=True),
        ),
        ModelInfo(
            id="meta/llama-3.1-8b",
            provider="lmstudio",
            name="Llama 3.1 8B",
            size_bytes=5_730_000_000,
            quantization="Q5_K_M",
            parameters="8B",
            context_length=131072,
        ),
        ModelInfo(
            id="microsoft/phi-4-mini",
            provider="lmstudio",
            name="Phi-4 mini",
            size_bytes=4_080_000_000,
            quantization="Q8_0",
            parameters="3.8B",
            context_length=16384,
            capabilities=Capabilities(reasoning=True, tools=True),
        ),
    ]


def furnished() -> World:
    """A world with a past, to look at."""
    world = World()
    titles = [
        ("Draft release notes for 2.4", 0.05),
        ("Kubernetes probe settings", 0.1),
        ("Summarise the Q3 board pack", 1.1),
        ("Regex for ISO timestamps", 1.2),
        ("Trip plan: Lisbon in May", 3),
        ("Postgres index bloat", 4),
        ("Explain KV cache paging", 5),
        ('A <b>bold</b> & tricky "title" that is really much too long for the sidebar', 20),
    ]
    for title, age in titles:
        chat = world.new_chat(title=title, age_days=age, model_id="lmstudio:qwen/qwen2.5-7b")
        add_exchange(world, chat, f"Tell me about: {title}", ANSWER)
    chat = world.new_chat(
        title="Why coalesce streamed tokens?", model_id="lmstudio:qwen/qwen2.5-7b"
    )
    add_exchange(
        world,
        chat,
        "Why is my chat slow when the model is fast?",
        "Your model emits **200 tokens a second**, and every token makes the page re-render the "
        "whole conversation. The model is not the bottleneck, the `render` is.\n\nTwo changes fix "
        "it:\n\n- send updates at a fixed rate, e.g. 20 a second\n- keep finished messages out of "
        "the update",
    )
    return world


def add_exchange(world: World, chat: Chat, question: str, answer: str) -> Message:
    """A question and its answer at the end of the chat."""
    head = world.chats[chat.id].head_id
    at = world.chats[chat.id].updated_at
    asked = Message(
        id=uuid.uuid4().hex,
        chat_id=chat.id,
        parent_id=head,
        role="user",
        content=question,
        created_at=at,
    )
    told = Message(
        id=uuid.uuid4().hex,
        chat_id=chat.id,
        parent_id=asked.id,
        role="assistant",
        content=answer,
        reasoning=THOUGHT,
        created_at=at,
        model=ModelTruth(asked="lmstudio:qwen/qwen2.5-7b"),
        stats=TurnStats(
            input_tokens=30,
            output_tokens=172,
            tokens_per_second=61.4,
            time_to_first_token_seconds=0.42,
        ),
    )
    world.put(asked)
    world.put(told)
    world.change_chat(chat.id, head_id=told.id)
    return told
