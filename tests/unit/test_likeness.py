"""A request's task by its meaning: only with what is in memory, and never late."""

import asyncio
from collections.abc import Sequence

import pytest

from core.embedding import Vector
from core.errors import ProviderUnreachable
from core.likeness import EXAMPLES, Likeness
from core.models import ModelInfo
from core.tasks import guess_task
from tests.sockets import until

pytestmark = pytest.mark.anyio

MODEL = ModelInfo(id="embed", provider="home", name="embed", kind="embedding")


class Meanings:
    """Each text means what its words say: one axis a word a test knows."""

    axes = ("crash", "cat", "cost", "scientists", "hello")

    def __init__(self) -> None:
        self.model: ModelInfo | None = MODEL
        self.calls: list[list[str]] = []
        self.error: Exception | None = None
        self.hold = asyncio.Event()
        self.hold.set()

    async def ready(self) -> ModelInfo | None:
        return self.model

    async def now(self, model: ModelInfo, texts: Sequence[str]) -> tuple[Vector, ...]:
        self.calls.append(list(texts))
        await self.hold.wait()
        if self.error is not None:
            raise self.error
        return tuple(self._vector(text.casefold()) for text in texts)

    def _vector(self, text: str) -> Vector:
        return (0.1, *(float(word in text) for word in self.axes))


async def taught(meanings: Meanings) -> Likeness:
    likeness = Likeness(meanings)
    assert await likeness.task_of("anything") is None
    await until(lambda: likeness._model == MODEL.full_name)
    return likeness


async def test_the_most_like_example_tells_the_task_and_is_named() -> None:
    likeness = await taught(Meanings())
    guess = await likeness.task_of("It will crash again, I know it")

    assert guess is not None
    assert guess.task == "coding"
    assert "My program crashes" in guess.reasons[0]


async def test_what_is_like_several_tasks_tells_none() -> None:
    likeness = await taught(Meanings())

    assert await likeness.task_of("A crash with a cat") is None


async def test_without_an_embedding_model_in_memory_nobody_is_asked() -> None:
    meanings = Meanings()
    meanings.model = None

    assert await Likeness(meanings).task_of("Hello") is None
    assert meanings.calls == []


async def test_a_slow_or_failing_model_does_not_hold_the_question_up() -> None:
    meanings = Meanings()
    likeness = await taught(meanings)
    meanings.error = ProviderUnreachable("gone")
    assert await likeness.task_of("It will crash") is None
    meanings.hold.clear()

    async with asyncio.timeout(5):
        assert await likeness.task_of("It will crash") is None
    await likeness.aclose()


def test_the_examples_are_what_the_rules_alone_cannot_tell() -> None:
    unsure = [not guess_task(text).sure for texts in EXAMPLES.values() for text in texts]

    assert sum(unsure) >= len(unsure) / 2
