"""Comparisons: one question asked of two to four columns, each an agent and a model."""

from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import Field

from core.chat import Parameters
from core.chats import Chat, ModelTruth, Problem, TurnStats
from core.errors import BadParameter, Conflict, NotFound
from core.value import Value

MIN_COLUMNS = 2
MAX_COLUMNS = 4
# Each is read again with every look at the comparison.
MAX_ROUNDS = 100
TITLE_CHARS = 80

Order = Literal[
    "one_by_one",  # each column waits for those before it, so that their times can be compared
    "together",
]
PartState = Literal["waiting", "asked", "refused", "stopped", "interrupted"]
ColumnState = Literal[
    "waiting",  # for the columns before it
    "writing",
    "done",
    "stopped",
    "failed",
    "interrupted",
    "gone",  # its chat was kept, and deleted there
]


class ComparisonNotFound(NotFound):
    """No comparison has this id."""

    code = "comparison_not_found"


class ColumnNotFound(NotFound):
    """The comparison has no such column."""

    code = "column_not_found"


class BadColumns(BadParameter):
    """Too few or too many columns."""

    code = "bad_columns"


class ComparisonRunning(Conflict):
    """Its columns are still being answered."""

    code = "comparison_running"


class ComparisonFull(Conflict):
    """It has as many questions as one comparison holds."""

    code = "comparison_full"


class ColumnDraft(Value):
    """Who shall answer in a column."""

    agent_id: str | None = Field(default=None, max_length=100)
    model_id: str | None = Field(default=None, max_length=500)
    """A name, or `auto`; None is what the agent and the settings say."""
    parameters: Parameters | None = None


class ComparisonDraft(Value):
    """What a person wants compared."""

    content: str
    columns: tuple[ColumnDraft, ...]
    order: Order | None = None
    """None: one by one where two columns share a machine, else together."""


class RoundDraft(Value):
    """A further question."""

    content: str | None = None
    """None answers the last question again."""
    columns: tuple[int, ...] | None = None
    """Numbers of those that shall answer; None for all whose chat, agent and model are there."""
    order: Order | None = None


class Part(Value):
    """One column's part in a round."""

    column: int
    state: PartState = "waiting"
    message_id: str | None = None
    user_message_id: str | None = None
    job_id: str | None = None
    problem: Problem | None = None
    """Why it could not even be asked."""
    made_room: tuple[str, ...] = ()
    """Names of models that were taken out of memory for it."""


class Round(Value):
    """A question, and how it was put to the columns."""

    content: str
    again: bool = False
    """Each column's last question, answered once more. `content` is that of the first of `parts`."""
    order: Order
    parts: tuple[Part, ...]
    """In the order in which they are asked."""
    started_at: float
    """Unix seconds."""


class Column(Value):
    """A column. What is said in it stands in its chat."""

    number: int
    """From 1, from left to right."""
    agent_id: str | None = None
    model_id: str | None = None
    parameters: Parameters | None = None
    chat_id: str
    kept: bool = False
    """Its chat is an ordinary one now, and outlives the comparison."""


class Comparison(Value):
    """A comparison as it is kept."""

    id: str
    title: str
    columns: tuple[Column, ...]
    rounds: tuple[Round, ...] = ()
    created_at: float
    updated_at: float

    def column(self, number: int) -> Column:
        """Raises ColumnNotFound."""
        for column in self.columns:
            if column.number == number:
                return column
        raise ColumnNotFound(
            f"This comparison has no column {number}.",
            hint=f"It has columns 1 to {len(self.columns)}.",
        )

    def last_part(self, number: int) -> tuple[int, Part] | None:
        """The newest round that asked this column, by its place, and the column's part in it."""
        for place in range(len(self.rounds) - 1, -1, -1):
            for part in self.rounds[place].parts:
                if part.column == number:
                    return place, part
        return None

    def last_question(self, number: int) -> tuple[str, str | None]:
        """What this column was asked last, and the id it has in the column's chat, if it got there."""
        message_id: str | None = None
        for asked in reversed(self.rounds):
            for part in asked.parts:
                if part.column != number:
                    continue
                message_id = message_id or part.user_message_id
                if not asked.again:
                    return asked.content, message_id
        return "", message_id

    def with_part(self, place: int, part: Part) -> "Comparison":
        """The same with this part in that round, in place of the column's old one."""
        old = self.rounds[place]
        parts = tuple(part if each.column == part.column else each for each in old.parts)
        rounds = list(self.rounds)
        rounds[place] = old.model_copy(update={"parts": parts})
        return self.model_copy(update={"rounds": tuple(rounds)})


class ColumnNow(Value):
    """How a column's last answer is doing."""

    column: int
    chat_id: str
    state: ColumnState
    waits_for: tuple[int, ...] = ()
    """Columns that are answered before it, in order."""
    round: int = 0
    """Which of the rounds it was asked in, from 0."""
    question: str = ""
    """What it was asked there; a round that asks again asks each column its own last question."""
    message_id: str | None = None
    job_id: str | None = None
    reason: str | None = None
    problem: Problem | None = None
    stats: TurnStats | None = None
    model: ModelTruth | None = None
    made_room: tuple[str, ...] = ()


class ComparisonInfo(Comparison):
    """A comparison as it is now."""

    now: tuple[ColumnNow, ...]
    job_id: str | None = None
    """Of the round under way, if any."""


class ComparisonBrief(Value):
    """A comparison in a list."""

    id: str
    title: str
    columns: tuple[Column, ...]
    questions: int
    created_at: float
    updated_at: float
    running: bool = False


class ComparisonPage(Value):
    """One page of the comparisons, the one asked last first."""

    comparisons: tuple[ComparisonBrief, ...]
    total: int
    next_offset: int | None = None


class ComparisonStore(Protocol):
    """Where comparisons are kept. Raises StorageError when the disk fails."""

    async def add_comparison(self, comparison: Comparison, columns: Sequence[Chat]) -> None:
        """Keep it and its columns' chats, which no list of chats shows."""
        ...

    async def keep_comparison(self, comparison: Comparison) -> None:
        """Replace the one of its id, if it is still there."""
        ...

    async def comparison(self, comparison_id: str) -> Comparison:
        """Raises ComparisonNotFound, also for a deleted one."""
        ...

    async def comparisons(self, *, query: str = "", limit: int, offset: int) -> ComparisonPage:
        """The one asked last first; `query`: words that are all in the title."""
        ...

    async def release_chat(self, chat_id: str) -> None:
        """From now on an ordinary chat."""
        ...

    async def delete_comparison(self, comparison_id: str) -> None:
        """Hide it and the chats that are still its own. Raises ComparisonNotFound."""
        ...

    async def restore_comparison(self, comparison_id: str) -> Comparison:
        """Undo that. Raises ComparisonNotFound once it is gone for good."""
        ...


def require_columns(count: int) -> None:
    """Raises BadColumns."""
    if count < MIN_COLUMNS:
        raise BadColumns(
            "A comparison needs at least two columns.",
            hint="Add another agent or model; for one alone, ask in a chat.",
        )
    if count > MAX_COLUMNS:
        raise BadColumns(
            f"A comparison has at most {MAX_COLUMNS} columns; these are {count}.",
            hint="Compare the others with the best of these in a second one.",
        )


def require_asked(numbers: Sequence[int]) -> None:
    """Raises BadColumns."""
    if not numbers:
        raise BadColumns(
            "No column is to be asked.",
            hint="Name at least one, or leave `columns` out to ask all.",
        )


def title_of(content: str) -> str:
    """A question's first words."""
    words = " ".join(content[: TITLE_CHARS * 20].split())
    return words if len(words) <= TITLE_CHARS else f"{words[: TITLE_CHARS - 1].rstrip()}…"
