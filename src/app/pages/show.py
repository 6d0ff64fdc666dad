"""Showing a chat: one Gradio event paints a conversation, another follows its running answer.

The browser triggers the first to open a chat, after sending, whenever the pulse says that the chat
moved on, and when the second has come to the answer's end. They are two because with each update
the browser goes through all that an event may change: a hundred finished messages cost more than
the answer itself. The API owns the answer, so leaving a chat only ends the watching.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import gradio as gr

from app import wording
from app.client import DeskClient
from app.live import LiveAnswer
from app.replies import JobEvent
from app.transcript import transcript
from core.errors import ChatNotFound, DeskError, JobNotFound
from core.models import ModelInfo
from core.preferences import AUTO

# 20 paintings a second read as flowing; more only heats the machine.
PAINT_SECONDS = 0.05
STATE_SECONDS = 0.5
# A generator that yields this often is ended soon after its tab is closed.
HEARTBEAT_SECONDS = 1.0
TABS_REMEMBERED = 512

Update = dict[Any, Any]


class Tabs:
    """Which view of which chat each tab shows now, so that an older one's painting ends."""

    def __init__(self) -> None:
        self._shown: OrderedDict[str, tuple[int, str | None]] = OrderedDict()

    def open(self, tab: str, view: int, chat_id: str | None) -> bool:
        """This tab shows this view from now on; whether it is of the chat shown before."""
        _, before = self._shown.get(tab, (0, None))
        self._shown[tab] = view, chat_id
        self._shown.move_to_end(tab)
        while len(self._shown) > TABS_REMEMBERED:
            self._shown.popitem(last=False)
        return before == chat_id

    def shows(self, tab: str, view: int) -> bool:
        return self._shown.get(tab, (None, None))[0] == view


class ChatView:
    """The event handlers.

    Their outputs: the finished rows, the answer being written and the facts of both; the answer
    being written and how far it is.
    """

    def __init__(
        self, client: DeskClient, *, history: Any, live: Any, facts: Any, state: Any
    ) -> None:
        self._client = client
        self._history = history
        self._live = live
        self._facts = facts
        self._state = state
        self._tabs = Tabs()

    async def show(self, event: gr.EventData, request: gr.Request) -> Update:
        """Paint the chat of `event`, without the answer being written in it."""
        chat_id: str | None = getattr(event, "chat_id", None)
        view = int(getattr(event, "view", 0))
        everything = bool(getattr(event, "everything", False))
        tab = str(request.session_hash)
        same = self._tabs.open(tab, view, chat_id)
        if chat_id is None:
            return {self._history: [], self._live: [], self._facts: {"view": view, "chat": None}}
        try:
            update, running = await self._conversation(chat_id, view, everything=everything)
            if not (same and running):
                update[self._live] = []
        except DeskError as error:
            update = self._failed(chat_id, view, error)
        # The update of a view that the tab has left would be painted into the next one.
        return update if self._tabs.shows(tab, view) else _nothing(update)

    async def follow(self, event: gr.EventData, request: gr.Request) -> AsyncGenerator[Update]:
        """Paint the answer of the job of `event` until it ends or the tab shows another view."""
        job_id = str(getattr(event, "job_id", ""))
        view = int(getattr(event, "view", 0))
        tab = str(request.session_hash)
        end: dict[str, Any] = {"view": view, "job_id": job_id, "ended": True}
        try:
            async with aclosing(self._watch(job_id, view)) as updates:
                async for update in updates:
                    if not self._tabs.shows(tab, view):
                        break
                    yield update
        except JobNotFound:
            pass  # as after a restart of the server: the chat itself says how it ended
        except DeskError as error:
            end["problem"] = _problem(error)
        if self._tabs.shows(tab, view):
            yield {self._state: end}
        # Gradio repeats the last update when the generator ends, which by then may be another
        # chat's place: the last one must change nothing.
        yield {self._state: gr.skip()}

    async def _conversation(
        self, chat_id: str, view: int, *, everything: bool
    ) -> tuple[Update, bool]:
        """Everything finished, and whether an answer is under way."""
        # The pulse first: what changes after it is seen as a newer revision.
        pulse = await self._client.pulse(chat_id)
        conversation = await self._client.conversation(chat_id)
        chat = conversation.chat
        told = transcript(conversation.messages, everything=everything)
        job_id = chat.running_job_id
        facts = {
            "view": view,
            "chat": chat.model_dump(),
            "revision": pulse.chat.revision if pulse.chat else 0,
            "rows": told.rows,
            "hidden": told.hidden,
            "everything": everything,
            "job_id": job_id,
        }
        return {self._history: told.messages, self._facts: facts}, job_id is not None

    async def _watch(self, job_id: str, view: int) -> AsyncGenerator[Update]:
        """Updates of the answer, at most 20 a second. Raises JobNotFound for one that is gone."""
        answer = LiveAnswer(await self._client.job(job_id))
        stated, said = 0.0, ""
        async with aclosing(_batches(self._client, job_id)) as batches:
            async for batch in batches:
                for event in batch:
                    answer.take(event)
                update: Update = {self._live: answer.messages()}
                if answer.ended is not None:
                    yield update
                    return
                state = answer.state()
                if state["words"] != said or time.monotonic() - stated >= STATE_SECONDS:
                    stated, said = time.monotonic(), state["words"]
                    update[self._state] = {"view": view, **state}
                yield update

    def _failed(self, chat_id: str | None, view: int, error: DeskError) -> Update:
        facts = {
            "view": view,
            "chat": {"id": chat_id},
            "problem": _problem(error),
        }
        if isinstance(error, ChatNotFound):
            return {self._history: [], self._live: [], self._facts: facts}
        return {self._facts: facts}


def _problem(error: DeskError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _nothing(update: Update) -> Update:
    return dict.fromkeys(update, gr.skip())


async def _batches(client: DeskClient, job_id: str) -> AsyncGenerator[list[JobEvent]]:
    """What came since the last batch; an empty one each second of silence."""
    waiting: list[JobEvent] = []
    woken = asyncio.Event()

    async def read() -> None:
        try:
            async with aclosing(client.job_events(job_id, merge_ms=50)) as events:
                async for event in events:
                    if event.type != "tick":
                        waiting.append(event)
                        woken.set()
        finally:
            woken.set()

    reader = asyncio.create_task(read())
    try:
        while not (reader.done() and not waiting):
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await woken.wait()
            except TimeoutError:
                pass
            woken.clear()
            batch, waiting[:] = list(waiting), []
            yield batch
            await asyncio.sleep(PAINT_SECONDS)
        await reader
    finally:
        reader.cancel()
        await asyncio.wait([reader])


def model_choices(models: list[ModelInfo], picked: str | None) -> list[tuple[str, str]]:
    """Options of the model dropdown: loaded first, and a picked one that is gone as such."""
    chat_models = [model for model in models if model.kind == "llm"]
    several = len({model.provider for model in chat_models}) > 1
    order = sorted(
        chat_models,
        key=lambda m: (m.stale_since is not None, not m.loaded, m.provider, m.name.casefold()),
    )
    choices = [
        (wording.option_label(model, with_provider=several), model.full_name) for model in order
    ]
    if picked == AUTO or sum(model.stale_since is None for model in chat_models) > 1:
        choices.insert(0, (wording.AUTO_LABEL, AUTO))
    if picked and picked not in {name for _, name in choices}:
        gone = wording.short_model(picked.partition(":")[2] or picked)
        choices.insert(0, (f"○ {gone}{wording.DOT}not available", picked))
    return choices
