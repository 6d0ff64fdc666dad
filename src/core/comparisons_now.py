"""How a column is doing: its part in the last round that asked it, and the answer that came of it."""

from core.chats import Message
from core.comparisons import ColumnNow, ColumnState, Comparison, Part
from core.errors import ChatNotFound, MessageNotFound
from core.ports import ChatStore

STATES: dict[str, ColumnState] = {
    "writing": "writing",
    "done": "done",
    "stopped": "stopped",
    "failed": "failed",
    "interrupted": "interrupted",
}


async def column_now(
    chats: ChatStore, comparison: Comparison, number: int, *, live: bool
) -> ColumnNow:
    """`live`: a round is under way. Raises StorageError."""
    column = comparison.column(number)
    now = ColumnNow(column=number, chat_id=column.chat_id, state="interrupted")
    found = comparison.last_part(number)
    if found is None:  # its first question is just being written down
        return now.model_copy(update={"state": "waiting"}) if live else now
    place, part = found
    now = now.model_copy(
        update={
            "round": place,
            "question": comparison.last_question(number)[0],
            "message_id": part.message_id,
            "job_id": part.job_id,
            "made_room": part.made_room,
        }
    )
    if part.message_id is None:
        current = live and place == len(comparison.rounds) - 1
        return now.model_copy(update=_unasked(comparison, place, part, live=current))
    try:
        await chats.chat(column.chat_id)
        message = await chats.message(column.chat_id, part.message_id)
    except (ChatNotFound, MessageNotFound):
        return now.model_copy(update={"state": "gone"})
    return now.model_copy(update=_answered(message))


def _unasked(comparison: Comparison, place: int, part: Part, *, live: bool) -> dict[str, object]:
    if part.state == "refused":
        return {"state": "failed", "problem": part.problem}
    if part.state == "stopped":
        return {"state": "stopped", "reason": "user"}
    if part.state == "waiting" and live:
        return {"state": "waiting", "waits_for": _before(comparison, place, part)}
    return {"state": "interrupted", "reason": "server_stopped"}


def _before(comparison: Comparison, place: int, part: Part) -> tuple[int, ...]:
    """Columns of the round that are asked before this one, whether they have ended or not."""
    numbers = [each.column for each in comparison.rounds[place].parts if each.state != "stopped"]
    return tuple(numbers[: numbers.index(part.column)])


def _answered(message: Message) -> dict[str, object]:
    return {
        "state": STATES[message.status],
        "reason": message.reason,
        "problem": message.problem,
        "stats": message.stats,
        "model": message.model,
    }
