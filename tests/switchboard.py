"""A desk in front of a real engine, with a second client at the engine itself.

async with switchboard(models_dir, data_dir) as board:
    turn = await board.ask("ant"); await board.evict("ant"); await board.ended(turn["job_id"])
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from api.main import create_app
from api.services import Services
from api.settings import Settings
from tests.desk import DeskUnderTest
from tests.engine_fixture import RunningEngine, start_engine
from tests.sockets import serve


class Switchboard:
    """A desk in front of an engine, and a second client at the engine itself."""

    def __init__(self, desk: DeskUnderTest, services: Services, engine: RunningEngine) -> None:
        self.desk = desk
        self.services = services
        self.engine = engine
        self.other = httpx.AsyncClient(base_url=engine.url, trust_env=False, timeout=60)

    async def ask(self, name: str, tokens: int) -> dict[str, Any]:
        chat = await self.desk.chat()
        parameters = {"max_tokens": tokens}
        receipt = await self.desk.ask(chat, model_id=f"lmstudio:{name}", parameters=parameters)
        return {"chat_id": chat, "model": name, **receipt}

    async def message(self, asked: dict[str, Any]) -> dict[str, Any]:
        return await self.desk.last_message(asked["chat_id"])

    async def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = (await self.desk.get(f"/api/v1/jobs/{job_id}")).json()
        return job

    async def ended(self, job_id: str) -> dict[str, Any]:
        """The job once it has ended."""
        events = await self.desk.events(job_id)
        assert events[-1]["type"] == "job.end"
        return await self.job(job_id)

    async def evict(self, name: str) -> bool:
        """What a second client does; whether there was anything to take."""
        answer = await self.other.post("/api/v1/models/unload", json={"instance_id": name})
        return answer.status_code == 200

    async def really_loaded(self) -> dict[str, list[str]]:
        """Instances by model, asked of the engine itself."""
        models = (await self.other.get("/api/v1/models")).json()["models"]
        found = {m["key"]: [i["id"] for i in m["loaded_instances"]] for m in models}
        return {key: ids for key, ids in found.items() if ids}

    async def said_loaded(self) -> dict[str, list[str]]:
        """The same as the desk says it."""
        models = (await self.desk.get("/api/v1/models/", params={"refresh": "true"})).json()
        found = {m["id"]: [i["id"] for i in m["instances"]] for m in models}
        return {key: ids for key, ids in found.items() if ids}

    async def empty(self) -> None:
        for name, ids in (await self.really_loaded()).items():
            for instance_id in ids:
                assert await self.evict(instance_id), name


@asynccontextmanager
async def switchboard(
    models: Path, data_dir: Path, **engine_options: Any
) -> AsyncGenerator[Switchboard]:
    """Everything up, on real sockets."""
    async with start_engine(models, **engine_options) as engine:
        app = create_app(Settings(data_dir=data_dir, embedded="off", lmstudio_url=engine.url))
        async with (
            app.router.lifespan_context(app),
            serve(app) as url,
            DeskUnderTest(base_url=url, trust_env=False, timeout=60) as desk,
        ):
            board = Switchboard(desk, app.state.services, engine)
            try:
                yield board
            finally:
                await board.other.aclose()


async def until(look: Callable[[], Awaitable[object]], *, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await look():
            await asyncio.sleep(0.01)
