"""Chain: asks the models of a route one after the other, until one begins to answer.

A failure before the first word moves on to the next; one behind it never does, so that no answer
has the words of two models.
"""

import asyncio
from contextlib import aclosing

from core.answer import Answer
from core.chat import ChatRequest
from core.chats import Tried
from core.errors import (
    ContextTooLong,
    DeskError,
    ModelMismatch,
    ModelNotFound,
    NotEnoughMemory,
    ProviderError,
)
from core.gate import Passage
from core.jobs import Job
from core.leases import Lease
from core.library import ModelLibrary
from core.models import ModelInfo
from core.recorder import Recording
from core.retries import wait_before, worth_retrying
from core.turn_plan import TurnPlan, as_sent

# What another model may well do better. A bad request stays one.
MOVES_ON = (ProviderError, NotEnoughMemory, ModelNotFound, ContextTooLong)


def moved_on(job: Job, model: ModelInfo, following: ModelInfo, error: DeskError) -> Tried:
    """Tell the job's watchers which model failed before its first word, and which is asked now."""
    tried = Tried(model_id=model.full_name, code=error.code, message=error.message)
    job.model_id = following.full_name
    job.emit(
        "notice",
        code="fallback",
        message=f"{error.message} {following.name} is asked instead.",
        model_id=following.full_name,
        tried=tried.model_dump(),
    )
    return tried


class Chain:
    """Carries plans out."""

    def __init__(self, library: ModelLibrary) -> None:
        self._library = library

    async def answer(self, job: Job, plan: TurnPlan, answer: Answer, recording: Recording) -> None:
        """Fill the answer. Raises the last failure when no model of the route answered."""
        models = [candidate.model for candidate in plan.route.candidates]
        for model, following in zip(models, [*models[1:], None], strict=True):
            try:
                await self._ask_again(job, plan, model, answer, recording)
                return
            except MOVES_ON as error:
                if answer.has_begun or following is None or isinstance(error, ModelMismatch):
                    raise
                self._move_on(job, answer, model, following, error)

    def _move_on(
        self, job: Job, answer: Answer, model: ModelInfo, following: ModelInfo, error: DeskError
    ) -> None:
        tried = moved_on(job, model, following, error)
        answer.move_to(following, tried, asked_context=self._library.asked_context(following))

    async def _ask_again(
        self, job: Job, plan: TurnPlan, model: ModelInfo, answer: Answer, recording: Recording
    ) -> None:
        """Ask one model, again where a failure before its first word is worth it."""
        attempts = self._library.config(model.provider).retry_attempts
        for attempt in range(1, attempts + 1):
            try:
                await self._ask(job, plan, model, answer, recording)
                return
            except DeskError as error:
                if answer.has_begun or not worth_retrying(error):
                    raise
                job.enter("queued", stage=f"trying again, {attempt} of {attempts}")
                await asyncio.sleep(wait_before(attempt, error))
        await self._ask(job, plan, model, answer, recording)

    async def _ask(
        self, job: Job, plan: TurnPlan, model: ModelInfo, answer: Answer, recording: Recording
    ) -> None:
        def show(place: int) -> None:
            job.enter("queued", stage=f"number {place} in the line for {model.provider}")

        async with (
            self._library.gate(model.provider).passage(show) as passage,
            self._library.lease(model, job) as lease,
        ):
            await self._stream(job, plan, lease, answer, recording, passage)

    async def _stream(
        self,
        job: Job,
        plan: TurnPlan,
        lease: Lease,
        answer: Answer,
        recording: Recording,
        passage: Passage,
    ) -> None:
        provider = self._library.provider(lease.model.provider)
        recording.asks(provider.name, provider.kind)
        answer.begin(lease, job)
        request = ChatRequest(
            model_id=lease.model.id,
            instance_id=lease.instance.id,
            messages=as_sent(plan, lease.model),
            parameters=plan.parameters.model_copy(update={"system_prompt": None}),
            wire=recording.wire,
        )
        async with aclosing(provider.stream_chat(request)) as events:
            async for event in events:
                passage.first_byte()
                answer.take(event, job)
