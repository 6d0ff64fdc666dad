"""The client's calls about recipes."""

from typing import Any
from urllib.parse import quote

from app.connection import Connection
from core.jobs import JobInfo
from core.recipes import Recipe


class RecipeCalls(Connection):
    """What can be asked of the API under `/recipes`."""

    async def recipes(self) -> list[Recipe]:
        return await self._get(list[Recipe], "/recipes")

    async def keep_recipe(self, recipe: dict[str, Any], recipe_id: str | None = None) -> Recipe:
        """A new one, or with an id the next version of that one."""
        if recipe_id is None:
            return await self._send(Recipe, "POST", "/recipes", recipe)
        return await self._send(Recipe, "PUT", f"/recipes/{quote(recipe_id)}", recipe)

    async def delete_recipe(self, recipe_id: str) -> None:
        await self._request("DELETE", f"/recipes/{quote(recipe_id)}")

    async def run_recipe(self, recipe_id: str, given: str) -> JobInfo:
        """The job that carries it out; its chat is made already."""
        return await self._send(
            JobInfo, "POST", f"/recipes/{quote(recipe_id)}/run", {"input": given}
        )
