"""Likeness: tells a request's task by what it means, where an embedding model is at hand."""

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Final, Protocol

from core.embedding import Vector
from core.errors import DeskError
from core.models import ModelInfo
from core.preferences import Task
from core.tasks import TaskGuess

log = logging.getLogger(__name__)

# A question is sent on without its likeness rather than later than this.
ANSWER_SECONDS = 0.25
# What is needed of the text to know what it is about.
READ_CHARS = 1000
# Another task must be this much less like it.
LEAD = 0.03

EXAMPLES: Final[dict[Task, tuple[str, ...]]] = {
    "coding": (
        "My program crashes when I click the button, what is wrong with it?",
        "How do I read a file line by line and count the words?",
        "Make this loop run faster.",
    ),
    "creative": (
        "Tell me something funny about a cat who wants to be king.",
        "I need a warm toast for my sister's wedding.",
        "Describe a city under the sea at night.",
    ),
    "analysis": (
        "Which of these two offers costs me less over five years?",
        "Find the mistake in this argument.",
        "What follows from these figures?",
    ),
    "research": (
        "What do scientists agree on about coffee and sleep?",
        "Give me an overview of the causes of the First World War.",
        "Which methods are there to store heat over the winter?",
    ),
    "general": (
        "Hello, how are you today?",
        "What should I cook tonight?",
        "Translate this letter into English.",
    ),
}


class VectorMaker(Protocol):
    """Makes vectors with what is in memory already."""

    async def ready(self) -> ModelInfo | None: ...

    async def now(self, model: ModelInfo, texts: Sequence[str]) -> tuple[Vector, ...]: ...


class Likeness:
    """Compares with a few examples of each task; loads nothing for it."""

    def __init__(self, vectors: VectorMaker) -> None:
        self._vectors = vectors
        self._model = ""
        self._examples: list[tuple[Task, str, Vector]] = []
        self._learning: asyncio.Task[None] | None = None

    async def task_of(self, text: str) -> TaskGuess | None:
        """The task whose example is most like it.

        None when no embedding model is in memory, its examples are not read yet, nothing leads, or
        the answer takes too long.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                model = await self._vectors.ready()
                if model is None or not text.strip():
                    return None
                if model.full_name != self._model:
                    self._learn(model)
                    return None
                (vector,) = await self._vectors.now(model, [text[:READ_CHARS]])
        except TimeoutError:
            return None
        except DeskError as error:
            log.info("the task was not told by likeness: %s", error.message)
            return None
        return self._nearest(vector)

    async def aclose(self) -> None:
        """Leave the examples unread."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)

    # -- inside ----------------------------------------------------------------------------------

    def _learn(self, model: ModelInfo) -> None:
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._read(model), name="likeness examples")

    async def _read(self, model: ModelInfo) -> None:
        pairs = [(task, text) for task, texts in EXAMPLES.items() for text in texts]
        try:
            vectors = await self._vectors.now(model, [text for _, text in pairs])
        except DeskError as error:
            log.info("the examples of tasks could not be read: %s", error.message)
            return
        self._examples = [(task, text, v) for (task, text), v in zip(pairs, vectors, strict=True)]
        self._model = model.full_name

    def _nearest(self, vector: Vector) -> TaskGuess | None:
        best: dict[Task, tuple[float, str]] = {}
        for task, example, other in self._examples:
            likeness = _cosine(vector, other)
            if likeness > best.get(task, (-1.0, ""))[0]:
                best[task] = (likeness, example)
        ranked = sorted(best.items(), key=lambda each: -each[1][0])
        (task, (likeness, example)), (_, (second, _)) = ranked[:2]
        if likeness - second < LEAD:
            return None
        return TaskGuess(
            task=task, reasons=(f"it is like “{example}” ({likeness:.2f})",), sure=True
        )


def _cosine(one: Vector, other: Vector) -> float:
    if len(one) != len(other):
        return -1.0  # the model's file was exchanged meanwhile
    length = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / length if length else -1.0
