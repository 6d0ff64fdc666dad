"""Fakes that fit the core's ports: small, honest, and driven by the test."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

from core.chat import Answered, ChatEvent, ChatRequest, ChatStream, MessageDelta, Parameters
from core.chats import Chat, ChatPage, Conversation, Message, MessageStatus
from core.errors import ChatNotFound, DeskError, LoadFailed, MessageNotFound, ProviderUnreachable
from core.hardware import GpuDriver, HardwareSnapshot
from core.models import (
    Instance,
    Loaded,
    LoadEvent,
    LoadOptions,
    LoadProgress,
    ModelInfo,
    ProviderHealth,
    ProviderKind,
)

DONE = Answered("stop", None, 3, 2)


class FakeProvider:
    """A provider whose models, answers and failures a test sets.

    `gate` holds back answers behind the first event; `load_gate` holds back loads.
    """

    kind: ProviderKind = "lmstudio"

    def __init__(self, *model_ids: str, name: str = "fake") -> None:
        self.name = name
        self.models = {
            model_id: ModelInfo(id=model_id, provider=name, name=model_id.title())
            for model_id in model_ids
        }
        self.events: list[ChatEvent] = [MessageDelta("Hel"), MessageDelta("lo"), DONE]
        self.error: DeskError | None = None
        self.list_error: DeskError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.load_gate = asyncio.Event()
        self.load_gate.set()
        self.load_error: DeskError | None = None
        self.lies = False
        """Says loaded and unloaded without doing either."""
        self.requests: list[ChatRequest] = []
        self.lists = 0
        self.loads = 0
        self.open_streams = 0
        self.cancelled_loads = 0
        self.list_delay: asyncio.Event | None = None

    async def health(self) -> ProviderHealth:
        state = "unreachable" if self.list_error else "ready"
        return ProviderHealth(
            provider=self.name, kind=self.kind, state=state, url="", message=state
        )

    async def list_models(self) -> list[ModelInfo]:
        self.lists += 1
        if self.list_delay is not None:
            await self.list_delay.wait()
        if self.list_error is not None:
            raise self.list_error
        return list(self.models.values())

    async def stream_chat(self, request: ChatRequest) -> ChatStream:
        self.requests.append(request)
        self.open_streams += 1
        try:
            for event in self.events:
                yield event
                await self.gate.wait()
            if self.error is not None:
                raise self.error
        finally:
            self.open_streams -= 1

    async def load_model(self, model_id: str, options: LoadOptions) -> AsyncGenerator[LoadEvent]:
        self.loads += 1
        try:
            for fraction in (0.0, 0.3, 0.2, 0.8):
                yield LoadProgress(fraction=fraction, exact=True)
            await self.load_gate.wait()
        except GeneratorExit:
            self.cancelled_loads += 1
            raise
        except asyncio.CancelledError:
            self.cancelled_loads += 1
            raise
        if self.load_error is not None:
            raise self.load_error
        instance = Instance(id=model_id, context_length=options.context_length or 4096)
        if not self.lies:
            self.put_in_memory(model_id, instance)
        yield Loaded(instance=instance, seconds=0.5)

    async def unload_instance(self, instance_id: str) -> None:
        if self.lies:
            return
        for model_id, model in self.models.items():
            rest = tuple(i for i in model.instances if i.id != instance_id)
            self.models[model_id] = model.model_copy(
                update={"instances": rest, "state": "loaded" if rest else "not-loaded"}
            )

    def put_in_memory(self, model_id: str, instance: Instance | None = None) -> None:
        model = self.models[model_id]
        instance = instance or Instance(id=model_id, context_length=4096)
        self.models[model_id] = model.model_copy(
            update={"instances": (*model.instances, instance), "state": "loaded"}
        )

    async def aclose(self) -> None:
        return None


class FakeStore:
    """Chats in dictionaries."""

    def __init__(self) -> None:
        self.chats: dict[str, Chat] = {}
        self.messages: dict[str, Message] = {}
        self.writes = 0

    async def create_chat(
        self, *, title: str = "", agent_id: str | None = None, model_id: str | None = None
    ) -> Chat:
        now = time.time()
        chat = Chat(
            id=f"chat{len(self.chats) + 1}",
            title=title,
            agent_id=agent_id,
            model_id=model_id,
            created_at=now,
            updated_at=now,
        )
        self.chats[chat.id] = chat
        return chat

    async def chat(self, chat_id: str) -> Chat:
        if chat_id not in self.chats:
            raise ChatNotFound(f"There is no chat {chat_id!r}.")
        return self.chats[chat_id]

    async def list_chats(self, *, query: str = "", limit: int = 50, offset: int = 0) -> ChatPage:
        return ChatPage(chats=tuple(self.chats.values()), total=len(self.chats))

    async def update_chat(
        self,
        chat_id: str,
        *,
        title: str | None = None,
        agent_id: str | None = None,
        model_id: str | None = None,
        parameters: Parameters | None = None,
        head_id: str | None = None,
    ) -> Chat:
        changes = {
            "title": title,
            "agent_id": agent_id,
            "model_id": model_id,
            "parameters": parameters,
            "head_id": head_id,
        }
        found = {key: value for key, value in changes.items() if value is not None}
        self.chats[chat_id] = (await self.chat(chat_id)).model_copy(update=found)
        return self.chats[chat_id]

    async def delete_chat(self, chat_id: str) -> None:
        del self.chats[chat_id]

    async def restore_chat(self, chat_id: str) -> Chat:
        return await self.chat(chat_id)

    async def purge_deleted(self, *, before: float) -> int:
        return 0

    async def conversation(self, chat_id: str) -> Conversation:
        chat = await self.chat(chat_id)
        return Conversation(chat=chat, messages=tuple(await self.branch(chat_id, chat.head_id)))

    async def message(self, chat_id: str, message_id: str) -> Message:
        if message_id not in self.messages:
            raise MessageNotFound(f"There is no message {message_id!r}.")
        return self.messages[message_id]

    async def branch(self, chat_id: str, message_id: str | None) -> list[Message]:
        found: list[Message] = []
        while message_id is not None:
            message = await self.message(chat_id, message_id)
            found.append(message)
            message_id = message.parent_id
        return found[::-1]

    async def tip(self, chat_id: str, message_id: str) -> str:
        return message_id

    async def add_messages(
        self,
        messages: Sequence[Message],
        *,
        head_id: str,
        agent_id: str | None = None,
        model_id: str | None = None,
    ) -> None:
        for message in messages:
            self.messages[message.id] = message
        await self.update_chat(
            messages[0].chat_id, agent_id=agent_id, model_id=model_id, head_id=head_id
        )

    async def write_text(self, message_id: str, *, content: str, reasoning: str) -> None:
        self.writes += 1
        self.messages[message_id] = self.messages[message_id].model_copy(
            update={"content": content, "reasoning": reasoning}
        )

    async def finish_message(self, message: Message) -> None:
        self.messages[message.id] = message

    async def being_written(self) -> list[Message]:
        return []

    async def mark_interrupted(self, *, reason: str) -> int:
        return 0

    async def count_by_status(self, status: MessageStatus) -> int:
        return sum(m.status == status for m in self.messages.values())

    async def aclose(self) -> None:
        return None


class FakeProbe:
    """A machine that never changes."""

    def __init__(self) -> None:
        self.samples = 0

    def sample(self) -> HardwareSnapshot:
        self.samples += 1
        return HardwareSnapshot(
            at=time.time(),
            cpu_percent=12.5,
            cpu_count=2,
            memory_used=4,
            memory_total=8,
            swap_used=0,
            swap_total=0,
            driver=GpuDriver(state="no_library", message="No NVIDIA driver."),
        )

    def resident(self, pids: Sequence[int]) -> dict[int, int]:
        return {}

    def close(self) -> None:
        return None


UNREACHABLE = ProviderUnreachable("Nothing answers.")
OUT_OF_ORDER = LoadFailed("The file is damaged.", hint="Download it again.")
