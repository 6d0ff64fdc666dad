"""What a chat in a list carries besides its own columns."""

from typing import Final

from sqlalchemy import literal, select

from infrastructure.storage.schema import chats, messages

# Written out, not bound: only then does SQLite use the index of unfinished messages.
IS_WRITING: Final = messages.c.status == literal("writing", literal_execute=True)
RUNNING_JOB: Final = (
    select(messages.c.job_id)
    .where(messages.c.chat_id == chats.c.id, IS_WRITING)
    .order_by(messages.c.seq.desc())
    .limit(1)
    .correlate(chats)  # also where the query around it reads messages of its own
    .scalar_subquery()
    .label("running_job_id")
)
