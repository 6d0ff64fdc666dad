"""Recipes: `core.recipes.RecipeStore` in SQL, in the database of the chats."""

from anyio import CancelScope, Lock
from pydantic import ValidationError
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from core.recipes import Recipe
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.schema import recipes


class SqlRecipes:
    """One row a recipe. Writers queue for the lock they are given."""

    def __init__(self, engine: AsyncEngine, lock: Lock) -> None:
        self._engine = engine
        self._writer = engine.execution_options(lmdesk_writes=True)
        self._lock = lock

    async def recipes(self) -> list[Recipe]:
        """All, in the order of their birth. Raises StorageError."""
        with storage_faults():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(select(recipes).order_by(recipes.c.seq))).all()
        return [recipe for row in rows if (recipe := _read(row.recipe)) is not None]

    async def keep_recipe(self, recipe: Recipe) -> None:
        """Add it, or replace the one of its id. Raises StorageError."""
        told = recipe.model_dump(mode="json")
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    mine = update(recipes).where(recipes.c.id == recipe.id).values(recipe=told)
                    if not (await connection.execute(mine)).rowcount:
                        row = {"id": recipe.id, "recipe": told}
                        await connection.execute(insert(recipes).values(row))

    async def delete_recipe(self, recipe_id: str) -> None:
        """Raises StorageError."""
        async with self._lock:
            with CancelScope(shield=True), storage_faults():
                async with self._writer.begin() as connection:
                    await connection.execute(delete(recipes).where(recipes.c.id == recipe_id))


def _read(recipe: object) -> Recipe | None:
    """None for what a newer version wrote and this one cannot use."""
    try:
        return Recipe.model_validate(recipe)
    except ValidationError:
        return None
