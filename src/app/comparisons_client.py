"""The client's calls about comparisons."""

from typing import Any
from urllib.parse import quote

import httpx

from app.connection import Connection
from core.comparisons import ComparisonInfo, ComparisonPage

# Stopping waits for the models and tools to let go; starting, for what is to be known of memory.
PATIENT = httpx.Timeout(None, connect=3.0)


class ComparisonCalls(Connection):
    """What can be asked of the API under `/comparisons`.

    What is asked goes as it was made: what is wrong in it comes back with its sentence.
    """

    async def comparisons(
        self, *, query: str = "", limit: int = 50, offset: int = 0
    ) -> ComparisonPage:
        asked = {"q": query or None, "limit": limit, "offset": offset}
        return await self._get(ComparisonPage, "/comparisons", **asked)

    async def comparison(self, comparison_id: str) -> ComparisonInfo:
        return await self._get(ComparisonInfo, f"/comparisons/{quote(comparison_id)}")

    async def start_comparison(self, asked: dict[str, Any]) -> ComparisonInfo:
        """A new one; its first answers are under way."""
        return await self._send(ComparisonInfo, "POST", "/comparisons", asked, timeout=PATIENT)

    async def ask_columns(self, comparison_id: str, asked: dict[str, Any]) -> ComparisonInfo:
        """A further question, or without one the last one again."""
        path = f"/comparisons/{quote(comparison_id)}/turns"
        return await self._send(ComparisonInfo, "POST", path, asked, timeout=PATIENT)

    async def stop_comparison(
        self, comparison_id: str, column: int | None = None
    ) -> ComparisonInfo:
        """Stop all of it or one column, and return when that has ended."""
        path = f"/comparisons/{quote(comparison_id)}/stop"
        return await self._send(ComparisonInfo, "POST", path, {"column": column}, timeout=PATIENT)

    async def keep_column(self, comparison_id: str, number: int) -> ComparisonInfo:
        """Make the column an ordinary chat."""
        path = f"/comparisons/{quote(comparison_id)}/columns/{number}/keep"
        return await self._send(ComparisonInfo, "POST", path, {})

    async def delete_comparison(self, comparison_id: str) -> None:
        path = f"/comparisons/{quote(comparison_id)}"
        await self._request("DELETE", path, timeout=PATIENT)

    async def restore_comparison(self, comparison_id: str) -> ComparisonInfo:
        path = f"/comparisons/{quote(comparison_id)}/restore"
        return await self._send(ComparisonInfo, "POST", path, {})
