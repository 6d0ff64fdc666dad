"""Who may come in."""

import os
from pathlib import Path

import httpx
import psutil
import pytest

from tests.engine_fixture import start_engine
from tests.integration.engine.conftest import connect

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

TOKEN = "sk-lm-abcdefgh:" + "0123456789" * 2


async def test_with_a_token_everything_but_the_greeting_wants_it(models_dir: Path) -> None:
    async with (
        start_engine(models_dir, token=TOKEN) as engine,
        httpx.AsyncClient(base_url=engine.url, trust_env=False) as client,
    ):
        assert (await client.get("/lmstudio-greeting")).json() == {"lmstudio": True}
        for path in ("/v1/models", "/api/v0/models", "/api/v1/models", "/unknown"):
            missing = await client.get(path)
            assert missing.status_code == 401
            error = missing.json()["error"]
            assert (error["type"], error["code"]) == ("invalid_request", "invalid_api_key")
            assert error["message"].startswith("An LM Studio API token is required")
            given = await client.get(path, headers=engine.headers)
            assert given.status_code == 200


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "sk-bogus-EXAMPLE",
            "Malformed LM Studio API token provided: sk-bogus-E******",
        ),
        (
            "sk-lm-abcdefgh:" + "x" * 20,
            "Invalid LM Studio API token provided: sk-lm-abcd" + "*" * 25,
        ),
    ],
)
async def test_a_wrong_token_is_refused_and_not_repeated(
    models_dir: Path, given: str, message: str
) -> None:
    async with (
        start_engine(models_dir, token=TOKEN) as engine,
        httpx.AsyncClient(base_url=engine.url, trust_env=False) as client,
    ):
        answer = await client.get("/v1/models", headers={"Authorization": f"Bearer {given}"})
        assert answer.status_code == 401
        assert answer.json()["error"]["message"] == message


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example:1234"}]
)
async def test_a_strangers_web_page_is_refused(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.post("/v1/chat/completions", headers=headers, content=b"{}")
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


async def test_a_models_process_answers_nobody_but_the_engine(models_dir: Path) -> None:
    async with start_engine(models_dir) as engine, connect(engine) as client:
        await client.post("/api/v1/models/load", json={"model": "parrot"})
        (pid,) = engine.children()
        child = psutil.Process(pid)
        (listener,) = [c for c in child.net_connections() if c.status == psutil.CONN_LISTEN]
        assert listener.laddr.ip == "127.0.0.1"
        async with httpx.AsyncClient(trust_env=False) as stranger:
            answer = await stranger.get(f"http://127.0.0.1:{listener.laddr.port}/props")
        assert answer.status_code == 401
        assert not any("api_key" in argument for argument in child.cmdline())
        assert child.environ()["OMP_WAIT_POLICY"] == "passive"
        assert os.getuid() != 0 or child.rlimit(psutil.RLIMIT_DATA)[0] < 2 << 30
