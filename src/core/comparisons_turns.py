"""From a comparison's columns to chats and the turns in them."""

import uuid

from core.chat import Parameters
from core.chats import Chat
from core.comparisons import Column, ColumnDraft, Comparison
from core.turn_plan import TurnDraft


def new_chat(column: ColumnDraft, comparison_id: str, now: float) -> Chat:
    """A chat for the column, which nobody has kept yet."""
    return Chat(
        id=uuid.uuid4().hex,
        title="",
        agent_id=column.agent_id,
        model_id=column.model_id,
        parameters=column.parameters or Parameters(),
        created_at=now,
        updated_at=now,
        comparison_id=comparison_id,
    )


def first_turn(content: str, column: ColumnDraft) -> TurnDraft:
    """The first question, as it is put to a column."""
    return TurnDraft(content=content, agent_id=column.agent_id, model_id=column.model_id)


def turn_of(comparison: Comparison, column: Column, content: str | None) -> TurnDraft:
    """What is asked in this column's chat: this, or its last question once more.

    Of whom and with what the column says, whatever was chosen since in a chat that was kept.
    """
    message_id: str | None = None
    if content is None:
        content, message_id = comparison.last_question(column.number)
    asked = {"content": content} if message_id is None else {"parent_id": message_id}
    return TurnDraft(
        agent_id=column.agent_id,
        model_id=column.model_id,
        parameters=column.parameters or Parameters(),
        **asked,
    )
