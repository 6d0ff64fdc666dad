"""ComparisonService: puts a question to every column, one by one or together, and keeps how it went."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field

from core.chats import Chat, Problem
from core.comparisons import (
    MAX_ROUNDS,
    Column,
    Comparison,
    ComparisonDraft,
    ComparisonFull,
    ComparisonInfo,
    ComparisonPage,
    ComparisonRunning,
    ComparisonStore,
    Order,
    Part,
    Round,
    RoundDraft,
    require_columns,
    title_of,
)
from core.comparisons_now import column_now
from core.comparisons_order import usual_order
from core.comparisons_room import RoomMaker
from core.comparisons_turns import first_turn, new_chat, turn_of
from core.errors import AgentNotFound, DeskError, JobNotFound, MessageEmpty
from core.jobs import Job, JobService
from core.library import ModelLibrary
from core.models import ModelInfo
from core.ports import ChatStore
from core.revisions import Revisions
from core.turn_plan import TurnDraft
from core.turns import StartedTurn, TurnService


@dataclass(slots=True)
class _Live:
    """A round under way."""

    comparison_id: str
    place: int
    job: Job
    order: Order
    models: dict[int, ModelInfo]
    """By column, as they were when everything was checked."""
    skipped: set[int] = field(default_factory=set)


class ComparisonService:
    """Comparisons belong to the API, as their turns do: whoever asked may leave."""

    def __init__(
        self,
        store: ComparisonStore,
        chats: ChatStore,
        jobs: JobService,
        turns: TurnService,
        library: ModelLibrary,
        revisions: Revisions,
        room: RoomMaker | None = None,
    ) -> None:
        """With `room`, a column's model may take the place of another column's."""
        self._store = store
        self._chats = chats
        self._jobs = jobs
        self._turns = turns
        self._library = library
        self._revisions = revisions
        self._room = room
        self._live: dict[str, _Live] = {}
        self._changing = asyncio.Lock()

    # -- asking ----------------------------------------------------------------------------------

    async def start(self, draft: ComparisonDraft) -> ComparisonInfo:
        """Check every column, then begin. Nothing is kept if one cannot be asked.

        Raises BadColumns, and what `TurnService.start` raises, with the column's number in its
        sentence.
        """
        require_columns(len(draft.columns))
        now = time.time()
        comparison_id = uuid.uuid4().hex
        chats = [new_chat(each, comparison_id, now) for each in draft.columns]
        models = {
            number: await self._checked(number, chat, first_turn(draft.content, each))
            for number, (chat, each) in enumerate(zip(chats, draft.columns, strict=True), 1)
        }
        comparison = Comparison(
            id=comparison_id,
            title=title_of(draft.content),
            columns=tuple(
                Column(number=number, chat_id=chat.id, **dict(each))
                for number, (chat, each) in enumerate(zip(chats, draft.columns, strict=True), 1)
            ),
            created_at=now,
            updated_at=now,
        )
        await self._store.add_comparison(comparison, chats)
        order = draft.order or usual_order(self._library, models.values())
        await self._begin(comparison, draft.content, models, order=order)
        return await self.read(comparison_id)

    async def ask(self, comparison_id: str, draft: RoundDraft) -> ComparisonInfo:
        """A further question, or the last one again. Raises what `start` raises, ComparisonNotFound,
        ColumnNotFound, ComparisonRunning and ComparisonFull.
        """
        comparison = await self._store.comparison(comparison_id)
        self._require_rest(comparison)
        numbers = draft.columns or tuple(each.number for each in comparison.columns)
        models = {}
        for number in dict.fromkeys(numbers):
            column = comparison.column(number)
            turn = turn_of(comparison, column, draft.content)
            models[number] = await self._checked(number, column.chat_id, turn)
        order = draft.order or usual_order(self._library, models.values())
        self._require_rest(comparison)  # others may have come meanwhile
        await self._begin(comparison, draft.content, models, order=order)
        return await self.read(comparison_id)

    # -- reading and keeping ---------------------------------------------------------------------

    async def read(self, comparison_id: str) -> ComparisonInfo:
        """As it is now. Raises ComparisonNotFound or StorageError."""
        comparison = await self._store.comparison(comparison_id)
        live = self._live.get(comparison_id)
        now = [
            await column_now(self._chats, comparison, each.number, live=live is not None)
            for each in comparison.columns
        ]
        going = {each.column for each in now if each.state in ("waiting", "writing")}
        told = tuple(
            each.model_copy(update={"waits_for": tuple(n for n in each.waits_for if n in going)})
            for each in now
        )
        job_id = live.job.id if live else None
        return ComparisonInfo(**dict(comparison), now=told, job_id=job_id)

    async def page(self, *, query: str, limit: int, offset: int) -> ComparisonPage:
        """The one asked last first."""
        page = await self._store.comparisons(query=query, limit=limit, offset=offset)
        told = tuple(
            each.model_copy(update={"running": each.id in self._live}) for each in page.comparisons
        )
        return page.model_copy(update={"comparisons": told})

    async def stop(self, comparison_id: str, column: int | None = None) -> ComparisonInfo:
        """End the round under way, or one column's part in it; answers once it has ended."""
        comparison = await self._store.comparison(comparison_id)
        live = self._live.get(comparison_id)
        if column is None:
            if live is not None:
                await self._jobs.stop(live.job.id)
            return await self.read(comparison_id)
        comparison.column(column)
        found = comparison.last_part(column)
        if found is not None:
            place, part = found
            if part.job_id is not None:
                with suppress(JobNotFound):
                    await self._jobs.stop(part.job_id)
            elif live is not None and live.place == place and part.state == "waiting":
                live.skipped.add(column)
                await self._set(comparison_id, place, part.model_copy(update={"state": "stopped"}))
        return await self.read(comparison_id)

    async def keep(self, comparison_id: str, number: int) -> ComparisonInfo:
        """Make the column's chat an ordinary one."""
        comparison = await self._store.comparison(comparison_id)
        column = comparison.column(number)
        await self._chats.chat(column.chat_id)

        def kept(now: Comparison) -> Comparison:
            columns = tuple(
                each.model_copy(update={"kept": True}) if each.number == number else each
                for each in now.columns
            )
            return now.model_copy(update={"columns": columns})

        await self._change(comparison_id, kept)
        await self._store.release_chat(column.chat_id)
        self._revisions.touch(column.chat_id)
        return await self.read(comparison_id)

    async def delete(self, comparison_id: str) -> None:
        """Stop it and hide it, with the chats that nobody kept."""
        comparison = await self._store.comparison(comparison_id)
        if (live := self._live.get(comparison_id)) is not None:
            await self._jobs.stop(live.job.id)
        mine = {column.chat_id for column in comparison.columns if not column.kept}
        for job in self._jobs.list(state="running", kind="turn"):
            if job.chat_id in mine:
                await self._jobs.stop(job.id)
        await self._store.delete_comparison(comparison_id)

    async def restore(self, comparison_id: str) -> ComparisonInfo:
        """Undo a delete. Raises ComparisonNotFound once it is gone for good."""
        await self._store.restore_comparison(comparison_id)
        return await self.read(comparison_id)

    # -- inside ----------------------------------------------------------------------------------

    async def _checked(self, number: int, chat: Chat | str, draft: TurnDraft) -> ModelInfo:
        """The model that would answer. Raises what keeps it from that, naming the column."""
        try:
            known = await self._chats.chat(chat) if isinstance(chat, str) else chat
            return (await self._turns.check(known, draft)).model
        except MessageEmpty:
            raise
        except DeskError as error:
            told = copy(error)
            told.message = f"Column {number}: {error.message}"
            if isinstance(error, AgentNotFound):
                told.hint = f"{error.hint} Or ask the other columns only."
            raise told from error

    def _require_rest(self, comparison: Comparison) -> None:
        if comparison.id in self._live:
            raise ComparisonRunning(
                "This comparison is still being answered.",
                hint="Wait until the last column is done, or stop it.",
            )
        if len(comparison.rounds) >= MAX_ROUNDS:
            raise ComparisonFull(
                f"This comparison has {MAX_ROUNDS} questions, which is as many as it holds.",
                hint="Start a new one, or keep a column as a chat and go on there.",
            )

    async def _begin(
        self,
        comparison: Comparison,
        content: str | None,
        models: dict[int, ModelInfo],
        order: Order,
    ) -> None:
        job = Job("comparison")
        job.result = {"comparison_id": comparison.id}
        live = _Live(comparison.id, len(comparison.rounds), job, order, models)
        self._live[comparison.id] = live
        last, _ = comparison.last_question(next(iter(models)))
        started = Round(
            content=last if content is None else content,
            again=content is None,
            order=order,
            parts=tuple(Part(column=number) for number in models),
            started_at=time.time(),
        )
        try:
            await self._change(
                comparison.id,
                lambda now: now.model_copy(
                    update={"rounds": (*now.rounds, started), "updated_at": started.started_at}
                ),
            )
            # Within the request: whoever asked learns of these answers at once.
            early = list(models) if order == "together" else list(models)[:1]
            turns = [await self._ask(live, number, content) for number in early]
        except BaseException:
            del self._live[comparison.id]
            raise
        job.enter("writing", stage=f"column 1 of {len(models)}")
        self._jobs.start(job, lambda job: self._work(live, content, early, turns))

    async def _work(
        self,
        live: _Live,
        content: str | None,
        early: Sequence[int],
        turns: Sequence[StartedTurn | None],
    ) -> None:
        try:
            await self._until(turns)
            for number in [each for each in live.models if each not in early]:
                if number in live.skipped:
                    continue
                live.job.enter("writing", stage=f"column {number} of {len(live.models)}")
                await self._until([await self._ask_surely(live, number, content)])
        finally:
            await self._close(live)

    async def _ask_surely(
        self, live: _Live, number: int, content: str | None
    ) -> StartedTurn | None:
        """Not broken off in the middle, which could leave an answer that nobody writes."""
        asking = asyncio.create_task(self._ask(live, number, content))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            live.skipped.add(number)
            await self._until([await asking])
            raise

    async def _until(self, turns: Sequence[StartedTurn | None]) -> None:
        """Return when they have ended; ended early, they end the same way."""
        going = [turn for turn in turns if turn is not None]
        try:
            for turn in going:
                await turn.job.ended.wait()
        except asyncio.CancelledError:
            for turn in going:
                turn.job.request_end("stopped", "user")
            for turn in going:
                await turn.job.ended.wait()
            raise

    async def _close(self, live: _Live) -> None:
        """What was not asked will not be any more."""
        state = live.job.ending[0] if live.job.ending else "interrupted"
        end = "stopped" if state == "stopped" else "interrupted"
        live.job.settle()
        try:
            comparison = await self._store.comparison(live.comparison_id)
            for part in comparison.rounds[live.place].parts:
                if part.state == "waiting":
                    ended = part.model_copy(update={"state": end})
                    await self._set(live.comparison_id, live.place, ended)
        finally:
            del self._live[live.comparison_id]

    async def _ask(self, live: _Live, number: int, content: str | None) -> StartedTurn | None:
        """Start this column's answer; None where that failed, which is kept with its part."""
        comparison = await self._store.comparison(live.comparison_id)
        column = comparison.column(number)
        part = Part(column=number)
        try:
            if self._room is not None and live.order == "one_by_one":
                others = {model.full_name for model in live.models.values()}
                room = await self._room.make(live.models[number], among=others)
                part = part.model_copy(update={"made_room": room})
            before = comparison.model_copy(update={"rounds": comparison.rounds[: live.place]})
            turn = await self._turns.start(column.chat_id, turn_of(before, column, content))
        except DeskError as error:
            problem = Problem(code=error.code, message=error.message, hint=error.hint)
            refused = part.model_copy(update={"state": "refused", "problem": problem})
            await self._set(live.comparison_id, live.place, refused)
            return None
        asked = part.model_copy(
            update={
                "state": "asked",
                "message_id": turn.message_id,
                "user_message_id": turn.user_message_id,
                "job_id": turn.job.id,
            }
        )
        await self._set(live.comparison_id, live.place, asked)
        if number in live.skipped:  # stopped while it was being asked
            turn.job.request_end("stopped", "user")
        return turn

    async def _set(self, comparison_id: str, place: int, part: Part) -> None:
        await self._change(comparison_id, lambda now: now.with_part(place, part))

    async def _change(self, comparison_id: str, change: Callable[[Comparison], Comparison]) -> None:
        async with self._changing:
            comparison = await self._store.comparison(comparison_id)
            await self._store.keep_comparison(change(comparison))
