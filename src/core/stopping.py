"""Proof of stop: whether a model really came to rest after its answer was stopped."""

import asyncio
import logging
import time

from core.chats import Message, StopProof, TurnStats
from core.errors import DeskError
from core.library import ModelLibrary
from core.models import ModelInfo, ProcessingStatus
from core.ports import BusyTeller, ChatStore
from core.revisions import Revisions

log = logging.getLogger(__name__)

# A model that is stopped while it reads a long prompt often reads on to the end.
PROOF_SECONDS = 3.0
LOOK_SECONDS = 0.1
UNKNOWN = StopProof(state="unknown")


class StopProofs:
    """Looks after each stop, behind the job's end, and adds what it saw to the kept message."""

    def __init__(self, store: ChatStore, library: ModelLibrary, revisions: Revisions) -> None:
        self._store = store
        self._library = library
        self._revisions = revisions
        self._looks: set[asyncio.Task[StopProof]] = set()
        self._proofs: set[asyncio.Task[None]] = set()

    def begin(self, message: Message, model: ModelInfo) -> None:
        """Start looking, if this message was stopped after its model had been asked.

        The connection that carried the answer is closed by now.
        """
        instance_id = message.model.instance_id if message.model else None
        if message.status != "stopped" or instance_id is None:
            return
        look = asyncio.create_task(self._look(model, instance_id), name="stop look")
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)
        proof = asyncio.create_task(self._add(message, look), name="stop proof")
        self._proofs.add(proof)
        proof.add_done_callback(self._proofs.discard)

    async def aclose(self) -> None:
        """Give up looking; what was seen already is still written."""
        for look in self._looks:
            look.cancel()
        # Not cancelled: a write that is broken off in the middle may keep the database locked.
        await asyncio.gather(*self._proofs)

    async def _look(self, model: ModelInfo, instance_id: str) -> StopProof:
        provider = self._library.provider(model.provider)
        if not isinstance(provider, BusyTeller):
            return UNKNOWN
        since = time.monotonic()
        doing: ProcessingStatus | None = None
        try:
            async with asyncio.timeout(PROOF_SECONDS):
                while True:
                    seen = await provider.processing(instance_id)
                    # Somebody else's answer on the same instance says nothing about ours.
                    if seen is None or (seen.status != "idle" and self._library.leased_by(model)):
                        return UNKNOWN
                    if seen.status == "idle":
                        return StopProof(state="idle", seconds=_since(since))
                    doing = seen.status
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            if doing is None:
                return UNKNOWN
            return StopProof(state="busy", seconds=_since(since), doing=doing)
        except DeskError:
            return UNKNOWN

    async def _add(self, message: Message, look: asyncio.Task[StopProof]) -> None:
        await asyncio.wait([look])
        if look.cancelled():
            return
        proof = look.result()
        stats = (message.stats or TurnStats()).model_copy(update={"stop_proof": proof})
        try:
            await self._store.finish_message(message.model_copy(update={"stats": stats}))
        except DeskError as error:
            log.warning("the proof of a stop could not be kept: %s", error)
            return
        if proof.state != "unknown":  # of which a screen shows nothing
            self._revisions.touch(message.chat_id)


def _since(start: float) -> float:
    return round(time.monotonic() - start, 2)
