"""What the Recipes dialog asks: the recipes, keeping them, and carrying one out."""

from typing import Any

from fastapi import APIRouter, Response

from app.client import DeskClient
from app.replies import Reply


class RecipeAsked(Reply):
    """A recipe as the form has it; what is wrong in it the API says by field."""

    name: str = ""
    description: str = ""
    steps: tuple[dict[str, Any], ...] = ()
    version: int | None = None
    """Of the recipe that is changed; None for a new one."""


class StartAsked(Reply):
    """What it is about this time."""

    input: str = ""


def add_recipes(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/recipes."""

    @router.get("/recipes")
    async def recipes() -> list[dict[str, Any]]:
        return [recipe.model_dump() for recipe in await client.recipes()]

    @router.post("/recipes")
    async def create(asked: RecipeAsked) -> dict[str, Any]:
        draft = asked.model_dump(exclude={"version"})
        return (await client.keep_recipe(draft)).model_dump()

    @router.put("/recipes/{recipe_id}")
    async def change(recipe_id: str, asked: RecipeAsked) -> dict[str, Any]:
        return (await client.keep_recipe(asked.model_dump(), recipe_id)).model_dump()

    @router.delete("/recipes/{recipe_id}")
    async def delete(recipe_id: str) -> Response:
        await client.delete_recipe(recipe_id)
        return Response(status_code=204)

    @router.post("/recipes/{recipe_id}/run")
    async def run(recipe_id: str, asked: StartAsked) -> dict[str, Any]:
        return (await client.run_recipe(recipe_id, asked.input)).model_dump()
