"""One request to the gateway, from its body to the last byte of the answer."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.types import Receive

from api.gateway.choice import Choice, choices
from api.gateway.errors import NotServed, UpstreamRefused, event_of, refusal, refusal_of
from api.gateway.meter import Meter
from api.gateway.passing import Passing
from api.gateway.reply import Reply
from api.gateway.request import Call
from api.gateway.signs import Signs
from api.services import Services
from core.errors import DeskError, ModelUnloaded, ProviderUnreachable, RequestError
from core.gate import Passage
from core.jobs import Job
from core.leases import Lease
from core.models import ModelInfo
from core.ports import Forwarder
from core.retries import wait_before, worth_retrying

log = logging.getLogger(__name__)

# How old a provider's list may be for a request to trust what it says of a model in memory. While
# requests run the list is looked at more often than that anyway, and a lost model ends them.
LIST_SECONDS = 5.0
# A failure that took longer is not repeated: the client, or another model, waits already.
QUICK_SECONDS = 1.0
LEFT = "client_left"


class Stopped(RequestError):
    """Somebody at the desk ended the request."""

    code = "stopped"


class Answering:
    """Finds who answers, holds a lease on its model, and passes the answer on."""

    def __init__(self, desk: Services, meter: Meter, call: Call, reply: Reply) -> None:
        self._desk = desk
        self._meter = meter
        self._call = call
        self._reply = reply
        self._job = Job("request")
        self._model: ModelInfo | None = None
        self._list_seconds = LIST_SECONDS

    async def run(self, receive: Receive) -> None:
        """Answer, whatever happens. Nothing is held any more when the last words are sent."""
        failure = await self._attended(receive)
        if isinstance(failure, ModelUnloaded) and not self._reply.started:
            # It was gone already when its list was taken as fresh enough: now the list is asked.
            self._job, self._list_seconds = Job("request"), 0.0
            failure = await self._attended(receive)
        if failure is not None:
            await self._refuse(failure)

    async def _attended(self, receive: Receive) -> DeskError | None:
        """Answer as a job; what kept us from it, if the client is still there to hear that."""
        failure: DeskError | None = None
        with self._desk.jobs.attend(self._job):
            watch = asyncio.create_task(self._until_left(receive))
            try:
                await self._answer()
            except DeskError as error:
                failure = error
            finally:
                watch.cancel()
        if self._job.ending is not None:
            return self._ended_early(self._job.ending[1])
        return failure

    async def _until_left(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._job.request_end("stopped", LEFT)

    async def _answer(self) -> None:
        failures: list[tuple[ModelInfo, DeskError]] = []
        async with aclosing(choices(self._desk, self._call)) as candidates:
            while (choice := await self._next(candidates, failures)) is not None:
                if await self._answers(choice, failures):
                    self._meter.fallbacks += bool(failures)
                    return
        raise _all_failed(failures)

    async def _next(
        self, candidates: AsyncGenerator[Choice], failures: list[tuple[ModelInfo, DeskError]]
    ) -> Choice | None:
        try:
            return await anext(candidates, None)
        except DeskError:
            if failures:  # the first one's failure says more than why there is no other
                return None
            self._meter.refused += 1
            raise

    async def _answers(self, choice: Choice, failures: list[tuple[ModelInfo, DeskError]]) -> bool:
        """Whether this one did; its failure, if another may do better, goes to the list."""
        try:
            await self._ask(choice)
        except DeskError as error:
            if self._reply.started or not _may_move_on(error):
                raise
            failures.append((choice.model, error))
            log.info("%s did not answer: %s", choice.model.full_name, error.code)
            return False
        return True

    async def _ask(self, choice: Choice) -> None:
        """Have this model answer. Raises before the first byte only."""
        model = choice.model
        self._model, self._job.model_id = model, model.full_name
        counts = self._meter.of(model.provider)
        counts.requests += 1
        counts.running += 1
        complete = False
        signs = Signs(self._reply, self._job, wanted=self._call.stream)
        self._reply.tell(model=model.full_name, provider=model.provider, route=choice.route)
        gate = self._desk.library.gate(model.provider)
        try:
            self._job.enter("queued")
            signs.begin()
            async with gate.passage(self._in_line) as passage:
                tries = 1 + gate.config.retry_attempts
                complete = await self._tried(model, passage, signs, tries=tries)
        except UpstreamRefused:
            complete = True  # it did answer
            raise
        finally:
            counts.running -= 1
            counts.failures += not complete and not self._left
            await signs.stop()

    async def _tried(self, model: ModelInfo, passage: Passage, signs: Signs, *, tries: int) -> bool:
        for attempt in range(1, tries + 1):
            began = time.monotonic()
            try:
                async with self._desk.library.lease(
                    model, self._job, max_age=self._list_seconds
                ) as lease:
                    await signs.stop()
                    return await self._forward(lease, passage)
            except DeskError as error:
                slow = time.monotonic() - began > QUICK_SECONDS
                if attempt == tries or slow or self._reply.started or not worth_retrying(error):
                    raise
                await asyncio.sleep(wait_before(attempt, error))
        raise AssertionError("the last attempt returns or raises")

    async def _forward(self, lease: Lease, passage: Passage) -> bool:
        provider = self._desk.library.provider(lease.model.provider)
        if not isinstance(provider, Forwarder):
            raise NotServed(
                f"{provider.name} does not speak OpenAI's API.",
                hint="Chat with its models in LM Desk itself, or ask another provider.",
            )
        self._job.enter("reading")
        body = self._call.bytes_for(lease.instance.id)
        answer = await provider.forward(self._call.path, body)
        try:
            return await Passing(
                self._call,
                answer,
                self._reply,
                who=lease.model.provider,
                counts=self._meter.of(lease.model.provider),
                passage=passage,
            ).run()
        finally:
            answer.close()

    def _in_line(self, place: int) -> None:
        self._job.enter("queued", stage=f"at place {place}")

    @property
    def _left(self) -> bool:
        return self._job.ending is not None and self._job.ending[1] == LEFT

    def _ended_early(self, reason: str) -> DeskError | None:
        """What to tell the client; None when it is gone."""
        if reason == LEFT:
            self._meter.left += 1
            return None
        if reason == "server_stopped":
            return ProviderUnreachable("LM Desk is shutting down.", hint="Ask again in a moment.")
        if reason == "user":
            return Stopped("The request was stopped in LM Desk.")
        name = self._model.full_name if self._model else self._call.model
        return ModelUnloaded(
            f"{name} was taken out of memory while it was answering.",
            hint="What came so far is right. Ask again to load it anew.",
        )

    async def _refuse(self, failure: DeskError) -> None:
        if not self._reply.started:
            if not isinstance(failure, UpstreamRefused):
                self._reply.truth = []  # nobody answered
            await self._reply.refuse(refusal_of(failure))
        elif self._call.stream:
            await self._reply.end(event_of(failure))


def _may_move_on(error: DeskError) -> bool:
    """Whether another model may do better: not where the request itself is at fault."""
    return not isinstance(error, UpstreamRefused | RequestError) or error.code == "model_not_found"


def _all_failed(failures: list[tuple[ModelInfo, DeskError]]) -> DeskError:
    """The first choice's error, which names the others too."""
    first = failures[0][1]
    if others := [f"{model.full_name}: {error.message}" for model, error in failures[1:]]:
        first.hint = f"{first.hint} Tried after it: {' '.join(others)}".strip()
    return first


INTERNAL = refusal(
    500, "internal", "Something went wrong inside LM Desk.", hint="The log has the details."
)
