"""Recipes: tasks in steps, each by its own agent and model."""

from typing import Annotated

from fastapi import APIRouter, Request, Response, status
from pydantic import Field
from starlette.responses import JSONResponse

from api.services import Desk
from api.sse import stream_job, wants_events
from core.jobs import JobInfo
from core.recipes import MAX_INPUT_CHARS, Recipe, RecipeDraft
from core.value import Value

router = APIRouter(prefix="/recipes", tags=["recipes"])


class RecipeChange(RecipeDraft):
    """The recipe as it shall be."""

    version: Annotated[int, Field(ge=1)]
    """The version that was seen; a newer one is not overwritten."""


class RecipeStart(Value):
    """What a recipe is about this time."""

    input: str = Field(default="", max_length=MAX_INPUT_CHARS)


@router.get("")
@router.get("/", include_in_schema=False)
async def list_recipes(desk: Desk) -> list[Recipe]:
    """All recipes."""
    return await desk.recipes.all()


@router.post("", status_code=status.HTTP_201_CREATED)
@router.post("/", status_code=status.HTTP_201_CREATED, include_in_schema=False)
async def create_recipe(draft: RecipeDraft, desk: Desk) -> Recipe:
    """A new recipe."""
    return await desk.recipes.create(draft)


@router.get("/{recipe_id}")
async def read_recipe(recipe_id: str, desk: Desk) -> Recipe:
    """One recipe."""
    return await desk.recipes.read(recipe_id)


@router.put("/{recipe_id}")
async def change_recipe(recipe_id: str, body: RecipeChange, desk: Desk) -> Recipe:
    """Replace it. Refused when somebody else changed it meanwhile."""
    draft = RecipeDraft(**body.model_dump(exclude={"version"}))
    return await desk.recipes.change(recipe_id, draft, version=body.version)


@router.delete("/{recipe_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_recipe(recipe_id: str, desk: Desk) -> Response:
    """Remove it; chats made with it stay."""
    await desk.recipes.delete(recipe_id)
    return Response(status_code=204)


@router.post("/{recipe_id}/run", status_code=status.HTTP_202_ACCEPTED, response_model=JobInfo)
async def run_recipe(recipe_id: str, body: RecipeStart, desk: Desk, request: Request) -> Response:
    """Carry it out in a new chat, step by step. Stopping the job stops the step under way."""
    job = await desk.recipes.start(recipe_id, body.input)
    if wants_events(request):
        return stream_job(job)
    return JSONResponse(job.info.model_dump(mode="json"), 202)
