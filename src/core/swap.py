"""Swaps: one model out, another in; and the old one back if the new one fails."""

import asyncio
from collections.abc import Sequence
from copy import copy
from typing import Literal, NamedTuple

from core.errors import DeskError
from core.jobs import Job
from core.library import ModelLibrary
from core.loads import Loads
from core.models import LoadOptions, ModelInfo
from core.plan import joined
from core.planner import chat_title
from core.ports import ChatStore

When = Literal["idle", "now"]


class _Taken(NamedTuple):
    """A model taken out of memory, and how it comes back."""

    model: ModelInfo
    options: LoadOptions


class _Swap(NamedTuple):
    """What was asked for."""

    model: ModelInfo
    options: LoadOptions
    going: tuple[ModelInfo, ...]
    when: When


class Swaps:
    """Starts swaps. Each is a load job, so whoever wants the new model waits for it."""

    def __init__(self, library: ModelLibrary, loads: Loads, store: ChatStore) -> None:
        self._library = library
        self._loads = loads
        self._store = store

    def start(
        self,
        model: ModelInfo,
        unload: Sequence[ModelInfo],
        *,
        when: When,
        options: LoadOptions,
        for_answers: bool = False,
    ) -> Job:
        """A job that unloads these and loads the model, or the job that already loads it.

        With `idle` it waits for the answers being written with them; with `now` those end as
        interrupted, because of `model_changed`. If the load fails, or is stopped, they come back;
        one `for_answers` is stopped with the last answer that waits for it. Raises NotLoadable before anything is touched.
        """
        going = {each.full_name: each for each in unload if each.full_name != model.full_name}
        for each in (model, *going.values()):
            self._library.require_loadable(each)
        swap = _Swap(model, options, tuple(going.values()), when)
        return self._library.start_load_by(
            model, lambda job: self._swap(job, swap), for_answers=for_answers
        )

    async def _swap(self, job: Job, swap: _Swap) -> None:
        taken: list[_Taken] = []
        try:
            while not await self._exchange(job, swap, taken):
                await self._wait(job, swap.going)
        except asyncio.CancelledError:
            if job.ending is not None and job.ending[1] != "server_stopped":
                for old in taken:
                    self._library.start_load(old.model, old.options)
            raise
        except DeskError as error:
            if not taken:
                raise
            told = copy(error)  # the error itself may be kept elsewhere
            told.hint = f"{error.hint} {await self._bring_back(job, taken)}".strip()
            raise told from error

    async def _exchange(self, job: Job, swap: _Swap, taken: list[_Taken]) -> bool:
        """Do it, in one piece for everybody else; False if answers are in the way."""
        async with self._library.doors(swap.model, *swap.going):
            # All must be idle before the first one goes: until then nothing has changed.
            if swap.when == "idle" and any(map(self._library.leased_by, swap.going)):
                return False
            with self._library.leaving(swap.going):
                await self._take_out(job, swap, taken)
            await self._library.bring_in(job, swap.model, swap.options)
        return True

    async def _take_out(self, job: Job, swap: _Swap, taken: list[_Taken]) -> None:
        for each in swap.going:
            job.enter("unloading", stage=f"taking {each.name} out of memory")
            # Before it goes: whatever interrupts us, it can come back.
            taken += await self._as_it_is(each)
            reason = "model_changed" if swap.when == "now" else None
            await self._library.take_out(each, interrupt=reason)

    async def _wait(self, job: Job, going: Sequence[ModelInfo]) -> None:
        for model in going:
            while chats := self._library.leased_by(model):
                titles = joined([f"“{await chat_title(self._store, each)}”" for each in chats])
                answers = "the answer" if len(chats) == 1 else "the answers"
                job.enter("queued", stage=f"waiting for {answers} in {titles} to end")
                await self._library.until_free(model)

    async def _as_it_is(self, model: ModelInfo) -> list[_Taken]:
        ours = self._loads.options_of(model.full_name) or LoadOptions()
        return [
            _Taken(model, ours.model_copy(update={"context_length": instance.context_length}))
            for instance in (await self._library.instances(model))[:1]
        ]

    async def _bring_back(self, job: Job, taken: Sequence[_Taken]) -> str:
        """Load them again; a sentence on how that went."""
        names = joined([old.model.name for old in taken])
        job.enter("loading", stage=f"bringing {names} back")
        loads = [self._library.start_load(old.model, old.options) for old in taken]
        for load in loads:
            await load.ended.wait()
        pairs = list(zip(taken, loads, strict=True))
        back = [old.model.name for old, load in pairs if load.state == "done"]
        gone = [old.model.name for old, load in pairs if load.state != "done"]
        said = [f"{joined(back)} {'is' if len(back) == 1 else 'are'} loaded again."] if back else []
        if gone:
            said.append(f"{joined(gone)} could not be loaded again.")
        return " ".join(said)
