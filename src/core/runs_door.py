"""ModelDoor: a run's way to its one model, with the limits and the truth about who answers."""

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from core.agents import AgentLimits
from core.errors import ModelNotFound, NotFound
from core.gate import Passage
from core.jobs import Job
from core.leases import Lease
from core.library import ModelLibrary
from core.ports import Forwarder, RawAnswer
from core.runs_errors import ModelChangedDuringExecution, RunOver
from core.runs_record import RunRecord

CHAT = "/v1/chat/completions"
# A run that came to a limit may use so many more for its last word.
SUMMARY_TOKENS = 1024
# Remote providers answer with the dated name of what an alias stands for.
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})")


class ModelDoor:
    """Held open by a lease for as long as the run lasts."""

    def __init__(
        self,
        library: ModelLibrary,
        lease: Lease,
        job: Job,
        record: RunRecord,
        limits: AgentLimits,
    ) -> None:
        self._library = library
        self._lease = lease
        self._job = job
        self._record = record
        self._limits = limits
        self._open: set[RawAnswer] = set()
        self._passage: Passage | None = None
        self._heard = False

    @property
    def heard(self) -> bool:
        """Whether there is a word of the model: from then on no other one may go on."""
        return self._heard

    @property
    def attempts(self) -> int:
        """How often a request is repeated that failed before its first word."""
        return self._library.config(self._lease.model.provider).retry_attempts

    def check_limits(self) -> None:
        """Raises RunOver when there is nothing left to spend."""
        usage, limits = self._record.usage, self._limits
        if usage.requests >= limits.rounds:
            times = "once" if limits.rounds == 1 else f"{limits.rounds} times"
            raise RunOver(
                "done", "limit_rounds", f"The model was asked {times}, which is the limit."
            )
        self.check_tokens()

    def check_tokens(self) -> None:
        """Raises RunOver when the tokens are spent."""
        usage, limits = self._record.usage, self._limits
        if usage.tokens >= limits.tokens:
            raise RunOver(
                "done",
                "limit_tokens",
                f"{usage.tokens:,} tokens were used; the limit is {limits.tokens:,}.",
            )

    @asynccontextmanager
    async def ask(self, body: Mapping[str, Any], *, last: bool) -> AsyncGenerator[RawAnswer]:
        """Send a chat completion to the leased instance, when it is our turn.

        `last`: for the last word of a run whose limit is reached.
        """
        lease = self._lease
        left = SUMMARY_TOKENS if last else self._limits.tokens - self._record.usage.tokens
        asked = body.get("max_tokens")
        wanted = {
            **body,
            "model": lease.instance.id,
            "max_tokens": min(asked, left) if isinstance(asked, int) else left,
        }
        if asked is None and not last and not self._bounded(left):
            del wanted["max_tokens"]
        provider = self._library.provider(lease.model.provider)
        if not isinstance(provider, Forwarder):
            raise ModelNotFound(
                f"{provider.name} does not speak OpenAI's API, which runs need.",
                hint="Choose a model of another provider.",
            )
        gate = self._library.gate(lease.model.provider)
        async with gate.passage(self._in_line) as passage:
            self._passage = passage
            answer = await provider.forward(CHAT, json.dumps(wanted).encode())
            self._open.add(answer)
            try:
                yield answer
            finally:
                self._open.discard(answer)
                answer.close()

    def first_byte(self) -> None:
        """The provider answers."""
        self._heard = True
        if self._passage is not None:
            self._passage.first_byte()

    def answered(self, name: str) -> None:
        """Raises ModelChangedDuringExecution unless it is the model that was asked."""
        model, instance = self._lease.model, self._lease.instance
        ours = {each.casefold() for each in (model.full_name, model.id, instance.id)}
        said = name.casefold()
        if said in ours or said.removesuffix(":latest") in ours:
            return
        if not model.loadable and any(
            said.startswith(each) and _DATED.fullmatch(said[len(each) :]) for each in ours
        ):
            return
        raise changed(f"{model.full_name} was asked, but {name} answered.")

    def gone(self, error: NotFound) -> NotFound | ModelChangedDuringExecution:
        """What it means that the provider does not know the model."""
        if not self._heard:
            return error
        return changed(f"{self._lease.model.full_name} is no longer served: {error.message}")

    def close(self) -> None:
        """Close what is open, however the run ended."""
        for answer in self._open:
            answer.close()

    def _bounded(self, left: int) -> bool:
        """Whether the rest of the budget is worth telling: servers take no more than they hold."""
        context = self._lease.instance.context_length
        return left < (context or 4096)

    def _in_line(self, place: int) -> None:
        self._job.enter("queued", stage=f"number {place} in the line")


def changed(message: str) -> ModelChangedDuringExecution:
    """The error that ends a run whose model is not what it was."""
    return ModelChangedDuringExecution(
        message, hint="What was done so far is kept. Start the task again with the model you want."
    )
