"""A desk with two scripted models, and what tests ask of its comparisons."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.agent_upstream import AgentUpstream, Say
from tests.desk import DeskUnderTest, run_desk
from tests.servers import serve

BOTH = [{"model_id": "first"}, {"model_id": "second"}]
AT = "/api/v1/comparisons"


@asynccontextmanager
async def desk_with_two(folder: Path) -> AsyncGenerator[tuple[DeskUnderTest, AgentUpstream]]:
    studio = AgentUpstream("first", "second")
    studio.plays(Say("I am the first."), model="first")
    studio.plays(Say("I am the second."), model="second")
    async with serve(studio) as url, run_desk(folder, lmstudio_url=url) as desk:
        yield desk, studio


async def compared(desk: DeskUnderTest, **changed: Any) -> dict[str, Any]:
    asked = {"content": "Who are you?", "columns": BOTH} | changed
    answer = await desk.post(AT, json=asked)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def read(desk: DeskUnderTest, comparison: dict[str, Any]) -> dict[str, Any]:
    return dict((await desk.get(f"{AT}/{comparison['id']}")).json())


async def when(
    desk: DeskUnderTest, comparison: dict[str, Any], holds: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The comparison as soon as this holds for it."""
    async with asyncio.timeout(20):
        while not holds(now := await read(desk, comparison)):
            await asyncio.sleep(0.02)
    return now


async def ended(desk: DeskUnderTest, comparison: dict[str, Any]) -> dict[str, Any]:
    return await when(desk, comparison, lambda now: now["job_id"] is None)


def states(comparison: dict[str, Any]) -> list[str]:
    return [each["state"] for each in comparison["now"]]


async def said(desk: DeskUnderTest, comparison: dict[str, Any], column: int) -> list[str]:
    chat = comparison["columns"][column - 1]["chat_id"]
    messages = (await desk.get(f"/api/v1/chats/{chat}")).json()["messages"]
    return [message["content"] for message in messages]
