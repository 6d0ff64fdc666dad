"""ComparisonService: puts a question to every column, one by one or together, and keeps how it went."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy

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
    require_asked,
    require_columns,
    title_of,
)
from core.comparisons_live import LiveRound, surely
from core.comparisons_now import column_now
from core.comparisons_order import usual_order
from core.comparisons_room import RoomMaker
from core.comparisons_turns import first_turn, new_chat, turn_of
from core.errors import AgentNotFound, DeskError, JobNotFound, MessageEmpty, NotFound
from core.jobs import Job, JobService
from core.library import ModelLibrary
from core.models import ModelInfo
from core.ports import ChatStore
from core.revisions import Revisions
from core.turn_plan import TurnDraft
from core.turns import StartedTurn, TurnService


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
        self._live: dict[str, LiveRound] = {}
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
        await self._begin(comparison_id, draft.content, models, order)
        return await self.read(comparison_id)

    async def ask(self, comparison_id: str, draft: RoundDraft) -> ComparisonInfo:
        """A further question, or the last one again.

        Raises what `start` raises, BadColumns where nobody is named, ComparisonNotFound,
        ColumnNotFound, ComparisonRunning and ComparisonFull.
        """
        comparison = await self._store.comparison(comparison_id)
        self._require_rest(comparison)
        models = await self._asked(comparison, draft)
        order = draft.order or usual_order(self._library, models.values())
        await self._begin(comparison_id, draft.content, models, order)
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

    async def _asked(self, comparison: Comparison, draft: RoundDraft) -> dict[int, ModelInfo]:
        """Who answers, by column. Asked of all, those are left out that are gone."""
        numbers = draft.columns
        if numbers is None:
            numbers = tuple(each.number for each in comparison.columns)
        require_asked(numbers)
        models: dict[int, ModelInfo] = {}
        gone: NotFound | None = None
        for number in dict.fromkeys(numbers):
            column = comparison.column(number)
            turn = turn_of(comparison, column, draft.content)
            try:
                models[number] = await self._checked(number, column.chat_id, turn)
            except NotFound as error:
                if draft.columns is not None:
                    raise
                gone = gone or error
        if gone is not None and not models:
            raise gone
        return models

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
        comparison_id: str,
        content: str | None,
        models: dict[int, ModelInfo],
        order: Order,
    ) -> None:
        """Put it to these columns. Whoever asked learns of the first answers when they are begun."""
        job = Job("comparison")
        job.result = {"comparison_id": comparison_id}
        live = LiveRound(comparison_id, content, job, order, models)
        self._require_rest(await self._store.comparison(comparison_id))
        # Nothing is waited for from here until it can be stopped: no other round begins beside it.
        self._live[comparison_id] = live
        self._jobs.start(job, lambda _: self._work(live))
        await live.begun.wait()
        if live.trouble is not None:
            raise live.trouble

    async def _work(self, live: LiveRound) -> None:
        numbers = list(live.models)
        try:
            await surely(self._open_round(live))
            for some in [numbers] if live.order == "together" else [[each] for each in numbers]:
                await self._answered(live, some)
        except DeskError as error:
            live.trouble = error
            raise
        finally:
            try:
                await self._close(live)
            finally:
                live.begun.set()

    async def _open_round(self, live: LiveRound) -> None:
        started_at = time.time()

        def opened(now: Comparison) -> Comparison:
            last, _ = now.last_question(next(iter(live.models)))
            started = Round(
                content=last if live.content is None else live.content,
                again=live.content is None,
                order=live.order,
                parts=tuple(Part(column=number) for number in live.models),
                started_at=started_at,
            )
            return now.model_copy(
                update={"rounds": (*now.rounds, started), "updated_at": started_at}
            )

        live.place = len((await self._change(live.comparison_id, opened)).rounds) - 1

    async def _answered(self, live: LiveRound, numbers: Sequence[int]) -> None:
        """Ask these and return when their answers have ended; ended early, they end the same way."""
        turns: list[StartedTurn] = []
        try:
            await surely(self._ask_each(live, numbers, turns))
            live.begun.set()
            for turn in turns:
                await turn.job.ended.wait()
        except asyncio.CancelledError:
            for turn in turns:
                turn.job.request_end(*(live.job.ending or ("interrupted", "server_stopped")))
            for turn in turns:
                await turn.job.ended.wait()
            raise

    async def _ask_each(
        self, live: LiveRound, numbers: Sequence[int], turns: list[StartedTurn]
    ) -> None:
        for number in numbers:
            if number in live.skipped or live.job.ending is not None:
                continue
            live.job.enter("writing", stage=f"column {number} of {len(live.models)}")
            turn = await self._ask(live, number)
            if turn is not None:
                turns.append(turn)

    async def _close(self, live: LiveRound) -> None:
        """What was not asked will not be any more."""
        state = live.job.ending[0] if live.job.ending else "interrupted"
        end = "stopped" if state == "stopped" else "interrupted"
        live.job.settle()
        try:
            comparison = await self._store.comparison(live.comparison_id)
            parts = comparison.rounds[live.place].parts if live.place >= 0 else ()
            for part in parts:
                if part.state == "waiting":
                    ended = part.model_copy(update={"state": end})
                    await self._set(live.comparison_id, live.place, ended)
        finally:
            del self._live[live.comparison_id]

    async def _ask(self, live: LiveRound, number: int) -> StartedTurn | None:
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
            turn = await self._turns.start(column.chat_id, turn_of(before, column, live.content))
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

    async def _change(
        self, comparison_id: str, change: Callable[[Comparison], Comparison]
    ) -> Comparison:
        async with self._changing:
            changed = change(await self._store.comparison(comparison_id))
            await self._store.keep_comparison(changed)
        return changed
