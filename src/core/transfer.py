"""Chats as files: a branch as JSON, and a new chat from one."""

import time
import uuid
from collections.abc import Sequence
from typing import Literal

from pydantic import ConfigDict, Field

from core.chat import Parameters
from core.chats import Conversation, Message, MessageStatus, ModelTruth, TurnStats
from core.value import Value


class SavedMessage(Value):
    """One message of a saved chat."""

    # A file may come from a newer LM Desk.
    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["user", "assistant"]
    content: str = Field(max_length=4_000_000)
    reasoning: str = Field(default="", max_length=4_000_000)
    status: MessageStatus = "done"
    reason: str | None = None
    model: ModelTruth | None = None
    stats: TurnStats | None = None
    agent_id: str | None = None
    created_at: float | None = None


class SavedChat(Value):
    """A chat as a file: the branch that was on show, oldest message first."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["lmdesk.chat"]
    version: Literal[1]
    title: str = Field(default="", max_length=300)
    agent_id: str | None = None
    model_id: str | None = None
    parameters: Parameters = Parameters()
    messages: tuple[SavedMessage, ...] = Field(default=(), max_length=20_000)


def saved(conversation: Conversation) -> SavedChat:
    """The conversation as a file holds it."""
    chat = conversation.chat
    fields = set(SavedMessage.model_fields)
    return SavedChat(
        format="lmdesk.chat",
        version=1,
        title=chat.title,
        agent_id=chat.agent_id,
        model_id=chat.model_id,
        parameters=chat.parameters,
        messages=tuple(
            SavedMessage.model_validate(message.model_dump(include=fields))
            for message in conversation.messages
            if message.role in ("user", "assistant")
        ),
    )


def restored(messages: Sequence[SavedMessage | Message], chat_id: str) -> list[Message]:
    """The messages as a chain of new ones; what was still being written counts as interrupted."""
    chain: list[Message] = []
    now = time.time()
    for message in messages:
        writing = message.status == "writing"
        chain.append(
            Message(
                id=uuid.uuid4().hex,
                chat_id=chat_id,
                parent_id=chain[-1].id if chain else None,
                role=message.role,
                content=message.content,
                reasoning=message.reasoning,
                status="interrupted" if writing else message.status,
                reason="copied" if writing else message.reason,
                model=message.model,
                stats=message.stats,
                agent_id=message.agent_id,
                created_at=message.created_at or now,
            )
        )
    return chain
