"""Recipes: a task done in steps, each by its own agent and model; a step's answer feeds the next."""

import logging
import time
import uuid
from contextlib import suppress
from copy import copy
from typing import Protocol

from pydantic import Field

from core.chats import Message, Problem
from core.errors import Conflict, DeskError, JobNotFound, MessageEmpty, NotFound, RequestError
from core.jobs import Job, JobService
from core.ports import ChatStore
from core.recipes_check import RecipeChecker, ToolServers, check_places, filled
from core.revisions import Revisions
from core.turn_plan import MAX_MESSAGE_CHARS, TurnDraft, new_message
from core.turns import StartedTurn, TurnService
from core.value import Line, Value

log = logging.getLogger(__name__)

MAX_STEPS = 20
MAX_INPUT_CHARS = 200_000


class RecipeNotFound(NotFound):
    """No recipe has this id."""

    code = "recipe_not_found"


class RecipeChanged(Conflict):
    """The recipe was changed elsewhere meanwhile."""

    code = "recipe_changed"


class RecipeInput(RequestError):
    """A recipe was started without what its first step needs."""

    code = "recipe_input_missing"


class RecipeStep(Value):
    """One step."""

    prompt: str = Field(min_length=1, max_length=100_000)
    """May hold `{{input}}`, `{{previous}}` (the answer before) and `{{step 1}}` (that one's)."""
    agent_id: str | None = Field(default=None, max_length=100)
    model: str | None = Field(default=None, max_length=500)
    """A name, or `auto`; None is what the agent and the settings say."""


class RecipeDraft(Value):
    """What a person says about a recipe."""

    name: Line = Field(min_length=1, max_length=80)
    description: Line = Field(default="", max_length=300)
    steps: tuple[RecipeStep, ...] = Field(min_length=1, max_length=MAX_STEPS)


class Recipe(RecipeDraft):
    """A recipe there is."""

    id: str
    version: int = 1
    """Grows with each change."""
    updated_at: float
    """Unix seconds."""


class RecipeStore(Protocol):
    """Where recipes are kept. Raises StorageError when the disk fails."""

    async def recipes(self) -> list[Recipe]:
        """All, in the order of their birth."""
        ...

    async def keep_recipe(self, recipe: Recipe) -> None:
        """Add it, or replace the one of its id."""
        ...

    async def delete_recipe(self, recipe_id: str) -> None: ...


class RecipeService:
    """Keeps recipes and carries them out: each in a chat of its own, where all of it can be read."""

    def __init__(
        self,
        store: RecipeStore,
        chats: ChatStore,
        jobs: JobService,
        turns: TurnService,
        revisions: Revisions,
        servers: ToolServers | None = None,
    ) -> None:
        """`servers` lists the tool servers there are."""
        self._checker = RecipeChecker(turns, servers)
        self._revisions = revisions
        self._store = store
        self._chats = chats
        self._jobs = jobs
        self._turns = turns

    async def all(self) -> list[Recipe]:
        """All recipes. Raises StorageError."""
        return await self._store.recipes()

    async def read(self, recipe_id: str) -> Recipe:
        """Raises RecipeNotFound."""
        for recipe in await self._store.recipes():
            if recipe.id == recipe_id:
                return recipe
        raise RecipeNotFound(
            f"There is no recipe {recipe_id!r}.", hint="GET /api/v1/recipes lists those there are."
        )

    async def create(self, draft: RecipeDraft) -> Recipe:
        """A new recipe. Raises BadParameter for a place that nothing fills, and StorageError."""
        check_places([step.prompt for step in draft.steps])
        recipe = Recipe(id=uuid.uuid4().hex[:12], updated_at=time.time(), **dict(draft))
        await self._store.keep_recipe(recipe)
        return recipe

    async def change(self, recipe_id: str, draft: RecipeDraft, *, version: int) -> Recipe:
        """Raises RecipeNotFound, RecipeChanged, StorageError, and BadParameter as `create`."""
        check_places([step.prompt for step in draft.steps])
        old = await self.read(recipe_id)
        if old.version != version:
            raise RecipeChanged(
                f"{old.name} was changed elsewhere meanwhile (version {old.version}).",
                hint="Look at the newer version, then make your change again.",
            )
        new = Recipe(id=recipe_id, version=version + 1, updated_at=time.time(), **dict(draft))
        await self._store.keep_recipe(new)
        return new

    async def delete(self, recipe_id: str) -> None:
        """Raises RecipeNotFound or StorageError."""
        await self.read(recipe_id)
        await self._store.delete_recipe(recipe_id)

    async def start(self, recipe_id: str, given: str) -> Job:
        """Begin the first step in a new chat; the job ends with the last one.

        Every step is checked before. Raises RecipeNotFound, RecipeInput, StorageError, and what
        keeps a step from starting, with its number; then there is no chat.
        """
        recipe = await self.read(recipe_id)
        if not given.strip() and "{{input}}" in recipe.steps[0].prompt.replace(" ", "").casefold():
            raise RecipeInput(f"{recipe.name} needs an input.", hint="Say what it is about.")
        check_places([step.prompt for step in recipe.steps])
        await self._checker.check([_draft(step, given, []) for step in recipe.steps])
        chat = await self._chats.create_chat(title=recipe.name)
        try:
            first = await self._begin(recipe, 0, chat.id, given, [])
        except DeskError:
            await self._chats.delete_chat(chat.id)
            raise
        job = Job("recipe", chat_id=chat.id)
        job.enter("queued", 0.0, stage=_stage(recipe, 0))
        return self._jobs.start(job, lambda job: self._work(job, recipe, chat.id, given, first))

    # -- inside ----------------------------------------------------------------------------------

    async def _begin(
        self, recipe: Recipe, number: int, chat_id: str, given: str, answers: list[str]
    ) -> StartedTurn:
        draft = _draft(recipe.steps[number], given, answers)
        try:
            return await self._turns.start(chat_id, draft)
        except DeskError as error:
            raise _not_asked(error, recipe, number) from error

    async def _work(
        self, job: Job, recipe: Recipe, chat_id: str, given: str, turn: StartedTurn
    ) -> None:
        answers: list[str] = []
        for number in range(len(recipe.steps)):
            if number:
                turn = await self._go_on(recipe, number, chat_id, given, answers)
            job.enter("writing", number / len(recipe.steps), stage=_stage(recipe, number))
            job.emit("step.start", step=number + 1, job_id=turn.job.id, message_id=turn.message_id)
            message = await self._answered(turn, chat_id)
            answers.append(message.content)
            job.result = {"chat_id": chat_id, "steps": number + 1, "output": message.content}
            if message.status != "done":
                self._end_early(job, recipe, number, message)
                return

    async def _go_on(
        self, recipe: Recipe, number: int, chat_id: str, given: str, answers: list[str]
    ) -> StartedTurn:
        """Begin a later step. Where it cannot, its chat says so: whoever looks there sees no job."""
        try:
            return await self._begin(recipe, number, chat_id, given, answers)
        except DeskError as error:
            try:
                await self._say_in_chat(error, recipe.steps[number], chat_id, given, answers)
            except DeskError as trouble:
                log.warning("why a recipe ended could not be kept in its chat: %s", trouble)
            raise

    async def _say_in_chat(
        self, error: DeskError, step: RecipeStep, chat_id: str, given: str, answers: list[str]
    ) -> None:
        """The question, answered with what kept it from being asked. Raises StorageError, or
        ChatNotFound."""
        asked = filled(step.prompt, given, answers)
        if not 0 < len(asked.strip()) <= MAX_MESSAGE_CHARS:
            asked = step.prompt
        head = (await self._chats.chat(chat_id)).head_id
        question = new_message(chat_id, parent_id=head, role="user", content=asked)
        answer = new_message(chat_id, parent_id=question.id, role="assistant", content="")
        failed = {
            "status": "failed",
            "reason": error.code,
            "problem": Problem(code=error.code, message=error.message, hint=error.hint),
            "agent_id": step.agent_id,
        }
        await self._chats.add_messages(
            [question, answer.model_copy(update=failed)], head_id=answer.id
        )
        self._revisions.touch(chat_id)

    async def _answered(self, turn: StartedTurn, chat_id: str) -> Message:
        """The step's answer when it has ended; a recipe that is stopped stops it."""
        try:
            await turn.job.ended.wait()
        except BaseException:
            with suppress(JobNotFound):
                await self._jobs.stop(turn.job.id)
            raise
        return await self._chats.message(chat_id, turn.message_id)

    @staticmethod
    def _end_early(job: Job, recipe: Recipe, number: int, message: Message) -> None:
        """What comes behind a step that did not end well would be built on sand."""
        if message.status == "stopped":
            job.ending = ("stopped", "user")
            return
        problem = message.problem
        error = DeskError(
            f"Step {number + 1} of {recipe.name} did not end well"
            + (f": {problem.message}" if problem else "."),
            hint=(problem.hint if problem else "") or "Its chat has what was written so far.",
        )
        error.code = problem.code if problem else "recipe_step_failed"  # type: ignore[misc]
        raise error


def _not_asked(error: DeskError, recipe: Recipe, number: int) -> DeskError:
    told = copy(error)
    told.message = f"Step {number + 1} of {recipe.name} could not be asked: {error.message}"
    if isinstance(error, MessageEmpty):
        told.hint = "It is asked with nothing but the answers before it, and those are empty."
    return told


def _draft(step: RecipeStep, given: str, answers: list[str]) -> TurnDraft:
    content = filled(step.prompt, given, answers)
    return TurnDraft(content=content, agent_id=step.agent_id, model_id=step.model)


def _stage(recipe: Recipe, number: int) -> str:
    return f"step {number + 1} of {len(recipe.steps)}"
