"""The tree of messages in a chat: branches, leaves and growth."""

from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from core.chats import Message
from core.errors import MessageNotFound
from infrastructure.storage.rows import families, message_columns, message_from
from infrastructure.storage.schema import messages


async def branch(connection: AsyncConnection, chat_id: str, message_id: str) -> list[Message]:
    """The messages from the root to this one, oldest first. Raises MessageNotFound."""
    own = messages.c.chat_id == chat_id
    line = (
        select(messages.c.seq, messages.c.parent_id)
        .where(own, messages.c.id == message_id)
        .cte("line", recursive=True)
    )
    line = line.union_all(
        select(messages.c.seq, messages.c.parent_id).where(own, messages.c.id == line.c.parent_id)
    )
    # A parent is always born before its child, so birth order is branch order.
    wanted = select(messages).join(line, line.c.seq == messages.c.seq).order_by(messages.c.seq)
    rows = (await connection.execute(wanted)).mappings().all()
    if not rows:
        raise no_message(message_id)
    nodes = select(messages.c.id, messages.c.parent_id).where(own).order_by(messages.c.seq)
    children = families((await connection.execute(nodes)).mappings().all())
    return [message_from(row, children[row["parent_id"]]) for row in rows]


async def message(connection: AsyncConnection, chat_id: str, message_id: str) -> Message:
    """One message with its siblings. Raises MessageNotFound."""
    own = messages.c.chat_id == chat_id
    wanted = select(messages).where(own, messages.c.id == message_id)
    row = (await connection.execute(wanted)).mappings().first()
    if row is None:
        raise no_message(message_id)
    family = (
        select(messages.c.id, messages.c.parent_id)
        .where(own, messages.c.parent_id.is_not_distinct_from(row["parent_id"]))
        .order_by(messages.c.seq)
    )
    children = families((await connection.execute(family)).mappings().all())
    return message_from(row, children[row["parent_id"]])


async def tip(connection: AsyncConnection, chat_id: str, message_id: str) -> str:
    """The newest message below this one, which is a leaf, or this one. Raises MessageNotFound."""
    own = messages.c.chat_id == chat_id
    below = (
        select(messages.c.seq, messages.c.id)
        .where(own, messages.c.id == message_id)
        .cte("below", recursive=True)
    )
    below = below.union_all(
        select(messages.c.seq, messages.c.id).where(own, messages.c.parent_id == below.c.id)
    )
    newest: str | None = await connection.scalar(
        select(below.c.id).order_by(below.c.seq.desc()).limit(1)
    )
    if newest is None:
        raise no_message(message_id)
    return newest


async def insert(connection: AsyncConnection, chat_id: str, new: Sequence[Message]) -> None:
    """Add messages whose parents are in the chat or earlier among them, else MessageNotFound."""
    born: set[str] = set()
    for one in new:
        if one.parent_id is not None and one.parent_id not in born:
            await require(connection, chat_id, one.parent_id)
        born.add(one.id)
    await connection.execute(insert_into(messages), [message_columns(one) for one in new])


async def require(connection: AsyncConnection, chat_id: str, message_id: str) -> None:
    """Raises MessageNotFound if the chat has no such message."""
    wanted = select(messages.c.seq).where(
        messages.c.chat_id == chat_id, messages.c.id == message_id
    )
    if await connection.scalar(wanted) is None:
        raise no_message(message_id)


async def first_question(connection: AsyncConnection, chat_id: str) -> str:
    """What the person said first; empty when nothing yet."""
    wanted: Select[tuple[str]] = (
        select(messages.c.content)
        .where(messages.c.chat_id == chat_id, messages.c.role == "user")
        .order_by(messages.c.seq)
        .limit(1)
    )
    return await connection.scalar(wanted) or ""


def no_message(message_id: str) -> MessageNotFound:
    """The error for a message that the chat does not have."""
    return MessageNotFound(
        f"This chat has no message '{message_id}'.", hint="Open the chat anew to see what it has."
    )
