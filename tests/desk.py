"""A whole API on a real socket for tests, in front of whatever provider the test runs."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from api.doors import with_doors
from api.main import create_app
from api.settings import Settings
from tests.sockets import serve


class DeskUnderTest(httpx.AsyncClient):
    """An HTTP client of a running API, with the two or three calls every test makes."""

    async def chat(self, **body: Any) -> str:
        """A new chat's id."""
        answer = await self.post("/api/v1/chats", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def ask(self, chat_id: str, content: str = "Hi", **more: Any) -> dict[str, Any]:
        """The receipt of a turn."""
        answer = await self.post(
            f"/api/v1/chats/{chat_id}/turns", json={"content": content, **more}
        )
        assert answer.status_code == 202, answer.text
        receipt: dict[str, Any] = answer.json()
        return receipt

    async def events(self, job_id: str, **params: Any) -> list[dict[str, Any]]:
        """All events of a job, each with its number as `id`."""
        url = f"/api/v1/jobs/{job_id}/events"
        async with self.stream("GET", url, params=params) as answer:
            assert answer.status_code == 200, (await answer.aread()).decode()
            return [event async for event in read_events(answer)]

    async def last_message(self, chat_id: str) -> dict[str, Any]:
        message: dict[str, Any] = (await self.get(f"/api/v1/chats/{chat_id}")).json()["messages"][
            -1
        ]
        return message


async def read_events(answer: httpx.Response) -> AsyncGenerator[dict[str, Any]]:
    """Server-Sent Events as dicts."""
    number: int | None = None
    async for line in answer.aiter_lines():
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            yield {"id": number, **json.loads(line[6:])}
            number = None


@asynccontextmanager
async def run_desk(data_dir: Path, **settings: Any) -> AsyncGenerator[DeskUnderTest]:
    """The API, up; without the embedded engine unless the test asks for it."""
    wanted = Settings(data_dir=data_dir, **{"embedded": "off", **settings})
    app = create_app(wanted)
    async with (
        app.router.lifespan_context(app),
        serve(with_doors(app, app)) as url,
        DeskUnderTest(
            base_url=url, trust_env=False, timeout=30, limits=httpx.Limits(max_connections=None)
        ) as desk,
    ):
        yield desk
