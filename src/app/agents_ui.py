"""What the agents dialog asks: agents made, changed and brought back, problems while one types, and a test chat."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from app import wording
from app.agent_versions import version_views
from app.client import DeskClient
from app.live import LiveAnswer
from app.markdown import rendered
from app.replies import JobEvent, Reply
from app.transcript import transcript
from core.agent_check import WINDOW_SHARE, AgentCheck
from core.errors import DeskError
from core.instructions import VARIABLES
from core.tool_server import ToolServer

MERGE_MS = 80
"""The test chat paints at most so often."""
RUNS = ("tool_call.", "plan.", "approval.")
"""Events with these beginnings are about a run, which is read in whole."""


class Change(Reply):
    """The agent as it shall be, and the version that was seen."""

    draft: dict[str, Any]
    version: int


class Version(Reply):
    """Which old version shall be the newest again."""

    version: int


class Trial(Reply):
    """A question to the draft as it stands. Without a chat, one is made."""

    content: str
    agent: dict[str, Any]
    agent_id: str | None = None
    model_id: str | None = None
    chat_id: str | None = None


def add_agents(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/agents."""
    _add_keeping(router, client)
    _add_versions(router, client)
    _add_trials(router, client)


def _add_keeping(router: APIRouter, client: DeskClient) -> None:
    @router.get("/agents")
    async def agents() -> list[dict[str, Any]]:
        return [agent.model_dump() for agent in await client.agents()]

    @router.post("/agents")
    async def create(draft: dict[str, Any]) -> dict[str, Any]:
        return (await client.create_agent(draft)).model_dump()

    @router.put("/agents/{agent_id}")
    async def change(agent_id: str, asked: Change) -> dict[str, Any]:
        changed = await client.change_agent(agent_id, asked.draft, version=asked.version)
        return changed.model_dump()

    @router.delete("/agents/{agent_id}")
    async def delete(agent_id: str) -> Response:
        await client.delete_agent(agent_id)
        return Response(status_code=204)

    @router.post("/agents/import")
    async def take_in(saved: dict[str, Any]) -> dict[str, Any]:
        return (await client.import_agent(saved)).model_dump()

    @router.post("/agents/{agent_id}/copy")
    async def copy(agent_id: str) -> dict[str, Any]:
        return (await client.copy_agent(agent_id)).model_dump()

    @router.get("/agents/{agent_id}/export")
    async def export(agent_id: str) -> Response:
        disposition, content = await client.agent_file(agent_id)
        headers = {"content-disposition": disposition, "cache-control": "no-store"}
        return Response(content, media_type="application/json", headers=headers)


def _add_versions(router: APIRouter, client: DeskClient) -> None:
    @router.get("/agents/{agent_id}/versions")
    async def versions(agent_id: str) -> list[dict[str, Any]]:
        return version_views(await client.agent_versions(agent_id))

    @router.post("/agents/{agent_id}/restore")
    async def restore(agent_id: str, asked: Version) -> dict[str, Any]:
        return (await client.restore_agent(agent_id, asked.version)).model_dump()


def _add_trials(router: APIRouter, client: DeskClient) -> None:
    @router.get("/agents/kit")
    async def kit() -> dict[str, Any]:
        variables = [{"name": name, "words": VARIABLES[name]} for name in VARIABLES]
        servers = (await client.run_servers()).servers
        return {"variables": variables, "servers": [server_view(server) for server in servers]}

    @router.post("/agents/check")
    async def check(draft: dict[str, Any]) -> dict[str, Any]:
        return check_view(await client.check_agent(draft))

    @router.post("/agents/trial")
    async def trial(asked: Trial) -> dict[str, Any]:
        return await start_trial(client, asked)

    @router.get("/agents/trial/{chat_id}/{job_id}")
    async def follow(chat_id: str, job_id: str) -> StreamingResponse:
        lines = trial_lines(client, chat_id, job_id)
        return StreamingResponse(
            lines, media_type="application/x-ndjson", headers={"cache-control": "no-store"}
        )


async def start_trial(client: DeskClient, asked: Trial) -> dict[str, Any]:
    """Start the turn; a chat made for a turn that is refused is taken back."""
    chat_id = asked.chat_id
    if chat_id is None:
        name = str(asked.agent.get("name") or "an agent")
        chat_id = (await client.create_chat(title=f"Test of {name}"[:200])).id
    try:
        started = await client.start_turn(
            chat_id,
            content=asked.content,
            model_id=asked.model_id,
            agent_id=asked.agent_id,
            agent=asked.agent,
        )
    except DeskError:
        if asked.chat_id is None:
            await client.delete_chat(chat_id)
        raise
    return {"chat_id": chat_id, "job_id": started.job_id}


async def trial_lines(client: DeskClient, chat_id: str, job_id: str) -> AsyncGenerator[bytes]:
    """The answer as it is written, a line of JSON each time; the last one says how it ended."""
    try:
        answer = LiveAnswer(await client.job(job_id))
        async with aclosing(client.job_events(job_id, merge_ms=MERGE_MS)) as events:
            async for event in events:
                answer.take(event)
                state = answer.state()
                told = {name: state[name] for name in ("words", "notice", "speed")}
                yield _line(**told, **_said(event))
        last = (await client.conversation(chat_id)).messages[-1:]
        yield _line(end=_ending(transcript(last).rows))
    except DeskError as error:
        yield _line(problem={"code": error.code, "message": error.message, "hint": error.hint})


def _said(event: JobEvent) -> dict[str, Any]:
    data = event.data
    if event.type == "message.delta":
        return {"text": data["content"]}
    if event.type == "reasoning.delta":
        return {"thought": data["content"]}
    if event.type == "message.was_thinking":
        return {"was_thinking": True}
    if event.type.startswith(RUNS):
        return {"run": True}
    return {}


def _ending(rows: list[dict[str, Any]]) -> dict[str, Any]:
    if not rows or rows[0]["role"] != "assistant":
        return {"text_html": "", "facts": [], "label": None, "problem": None, "difference": None}
    told = {name: rows[0][name] for name in ("facts", "label", "problem", "difference")}
    return {"text_html": rendered(rows[0]["text"]), **told}


def _line(**told: Any) -> bytes:
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"


def server_view(server: ToolServer) -> dict[str, Any]:
    """A tool server an agent may be given, with its switched-on tools."""
    tools = [tool for tool in server.tools if tool.enabled]
    number = "1 tool" if len(tools) == 1 else f"{len(tools)} tools"
    return {
        "name": server.name,
        "title": server.title if server.title.casefold() != server.name.casefold() else "",
        "words": f"{number}{wording.DOT}{tokens(server.tokens)}" if tools else "not started yet",
        "tools": [
            {
                "name": tool.name,
                "description": tool.description.strip().partition("\n")[0][:200],
                "words": tokens(tool.tokens),
                "reads": bool(tool.read_only),
            }
            for tool in tools
        ],
    }


def tokens(count: int) -> str:
    """What something costs in each request."""
    return "1 token" if count == 1 else f"{count:,} tokens"


def check_view(check: AgentCheck) -> dict[str, Any]:
    """What is amiss, by field, and what the instructions cost in words."""
    name = check.model_id and wording.short_model(check.model_id.partition(":")[2])
    share = check.tokens / check.window if check.window else None
    return {
        "model_id": check.model_id,
        "model": name,
        "share": share,
        "over": share is not None and share > WINDOW_SHARE,
        "cost": _cost(check, name, share),
        "problems": [problem.model_dump() for problem in check.problems],
    }


def _cost(check: AgentCheck, name: str | None, share: float | None) -> str:
    words = tokens(check.tokens)
    if not check.exact and check.tokens:
        words = f"about {words}"
    if share is None or check.window is None:
        return wording.sentence_case(words)
    percent = f"{share:.0%}" if share >= 0.01 or not check.tokens else "under 1%"
    part = f"{percent.replace('%', ' %')} of the {check.window:,} that {name} holds"
    return wording.sentence_case(f"{words}, {part}")
