"""What the page's scripts ask about runs: what was done so far, what waits for a person, and new ones."""

import asyncio
import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app import runs_words, wording
from app.client import DeskClient
from app.markdown import rendered
from app.replies import Reply
from core.errors import BadParameter, DeskError
from core.runs import AllowedTool, Approval, CallRecord, PlanItem, RunInfo, RunPage, RunStep
from core.tool_server import ToolServer
from core.visible import visible

NOT_USABLE = {
    "not_trusted": "Nobody has looked at it yet: see Tools.",
    "changed": "It changed since somebody said yes to it: see Tools.",
    "off": "Switched off.",
    "needs_sign_in": "It wants you to sign in first: see Tools.",
}


class RunAsked(Reply):
    """A run to start. The API says what is wrong with it."""

    task: str = ""
    servers: tuple[str, ...] = ()
    agent_id: str | None = None
    model: str | None = None
    approve: str | None = None
    max_rounds: Any = None
    max_tokens: Any = None
    max_minutes: Any = None


class Decided(Reply):
    """What a person said to a call."""

    decision: str
    written: str | None = None
    """The arguments as the person left them, as JSON. A browser's own numbers would lose digits."""
    arguments_hash: str | None = None
    message: str | None = None
    remember: str | None = None

    def said(self) -> dict[str, Any]:
        """The same as the API takes it. Raises BadParameter."""
        said = self.model_dump(exclude_none=True, exclude={"written"})
        if self.written is None:
            return said
        try:
            return {**said, "arguments": json.loads(self.written)}
        except (ValueError, RecursionError):
            raise BadParameter("The arguments are no JSON that can be read.") from None


def add_runs(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/runs."""
    _add_lists(router, client)
    _add_one(router, client)
    _add_calls(router, client)


def _add_lists(router: APIRouter, client: DeskClient) -> None:
    @router.get("/runs")
    async def runs(
        chat_id: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        page = await client.runs(chat_id=chat_id, limit=limit, offset=offset)
        return page_view(page, now=time.time())

    @router.get("/runs/kit")
    async def kit() -> dict[str, Any]:
        listed = await client.run_servers()
        return {
            "servers": [server_view(server) for server in listed.servers],
            "problems": [f"{each.message} {each.hint}".strip() for each in listed.problems],
            "modes": [
                {"mode": mode, "name": name, "words": words}
                for mode, (name, words) in runs_words.MODES.items()
            ],
        }

    @router.get("/runs/allowed")
    async def allowed() -> list[dict[str, Any]]:
        return [allowed_view(each) for each in await client.allowed_tools()]

    @router.delete("/runs/allowed/{server}")
    async def forget(server: str, tool: str | None = None) -> Response:
        await client.forget_allowed(server, tool)
        return Response(status_code=204)

    @router.post("/runs")
    async def start(asked: RunAsked) -> dict[str, Any]:
        return (await client.start_run(asked.model_dump(exclude_none=True))).model_dump()


def _add_one(router: APIRouter, client: DeskClient) -> None:
    @router.get("/runs/{run_id}")
    async def run(run_id: str) -> dict[str, Any]:
        return await _seen(await client.run(run_id))

    @router.get("/runs/{run_id}/live")
    async def live(run_id: str) -> dict[str, Any]:
        """The same of one that may not be there yet."""
        try:
            return {"run": await _seen(await client.run(run_id))}
        except DeskError as error:
            if error.code != "run_not_found":
                raise
            return {"run": None}

    @router.post("/runs/{run_id}/stop")
    async def stop(run_id: str) -> dict[str, Any]:
        return await _seen(await client.stop_run(run_id))

    @router.delete("/runs/{run_id}")
    async def delete(run_id: str) -> Response:
        await client.delete_run(run_id)
        return Response(status_code=204)

    @router.post("/runs/{run_id}/restore")
    async def restore(run_id: str) -> dict[str, Any]:
        return brief_view(await client.restore_run(run_id), now=time.time())


def _add_calls(router: APIRouter, client: DeskClient) -> None:
    @router.get("/runs/{run_id}/calls/{call_id:path}/result")
    async def result(run_id: str, call_id: str) -> dict[str, Any]:
        whole = await client.call_result(run_id, call_id)
        return {"text": whole.text, "images": [each.model_dump() for each in whole.images]}

    @router.post("/runs/{run_id}/approvals/{call_id:path}")
    async def decide(run_id: str, call_id: str, asked: Decided) -> dict[str, bool]:
        await client.decide_call(run_id, call_id, asked.said())
        return {"ok": True}


async def _seen(run: RunInfo) -> dict[str, Any]:
    """Beside the loop: a long answer takes a moment to render."""
    return await asyncio.to_thread(run_view, run, now=time.time())


def page_view(page: RunPage, *, now: float) -> dict[str, Any]:
    """The list, newest first."""
    return {"runs": [brief_view(run, now=now) for run in page.runs], "total": page.total}


def brief_view(run: RunInfo, *, now: float) -> dict[str, Any]:
    """A line of the list, and what heads a run."""
    ended = run.ended_at or now
    long = wording.duration(max(0.0, ended - run.created_at))
    waiting = len(run.approvals)
    return {
        "id": run.id,
        "task": runs_words.asked(run),
        "chat_id": run.chat_id,
        "agent_id": run.agent_id,
        "state": "waiting" if waiting else runs_words.shown_state(run),
        "words": "Waits for you" if waiting else runs_words.STATES[runs_words.shown_state(run)],
        "plan": runs_words.plan_share(run),
        "running": run.state == "running",
        "model": wording.short_model(run.model_id.partition(":")[2] or run.model_id),
        "servers": list(run.servers),
        "at": run.created_at,
        "cost": runs_words.cost(run.usage),
        "tokens": runs_words.spent(run.usage),
        "long": long,
        "ending": runs_words.ending(run),
        "good": run.state == "done" and not (run.reason or "").startswith("limit"),
    }


def run_view(run: RunInfo, *, now: float) -> dict[str, Any]:
    """All of a run, as its timeline shows it. What the model wrote is HTML, under `…_html`; `output`
    is its answer as it was written."""
    usage = run.usage
    return {
        **brief_view(run, now=now),
        "total": wording.DOT.join(
            (
                runs_words.cost(usage),
                f"{runs_words.short(usage.input_tokens)} read",
                f"{runs_words.short(usage.output_tokens)} written",
                wording.duration(usage.seconds),
            )
        ),
        "note": runs_words.note(run),
        "mode": runs_words.MODES[run.approve][0] if run.approve else "",
        "output": run.output,
        "output_html": "" if run.state == "running" else rendered(run.output, headings=True),
        "steps": _steps(run, now=now),
        "summed": bool(run.steps) and run.steps[-1].summary,
        "items": [_item(item) for item in run.plan],
        "approvals": [approval_view(each, now=now) for each in run.approvals],
    }


def _steps(run: RunInfo, *, now: float) -> list[dict[str, Any]]:
    planned = [step.number for step in run.steps if step.plan and not step.plan.problem]
    first = planned[0] if planned else None
    return [_step(step, run, first=step.number == first, now=now) for step in run.steps]


def _item(item: PlanItem) -> dict[str, str]:
    glyph, words = runs_words.PLAN_STATES[item.state]
    return {"text": item.text, "state": item.state, "glyph": glyph, "words": words}


def _step(step: RunStep, run: RunInfo, *, first: bool, now: float) -> dict[str, Any]:
    # What it writes now may become the answer.
    answer = run.steps[-1] is step and not step.calls and step.plan is None
    over = run.state != "running"
    return {
        "title": "Summary" if step.summary else f"Step {step.number}",
        "summary": step.summary,
        "plan": runs_words.step_plan(step, first=first),
        "refused": bool(step.plan and step.plan.problem),
        "number": step.number,
        # Of one that is over the answer stands below.
        "why_html": "" if answer and over else rendered(step.why),
        "reasoning_html": rendered(step.reasoning),
        "facts": runs_words.step_facts(step),
        "calls": [call_view(call, run, now=now) for call in step.calls],
        "answer": answer,
    }


def call_view(call: CallRecord, run: RunInfo, *, now: float) -> dict[str, Any]:
    """One call: what it was to do, and what came of it."""
    glyph, words = runs_words.CALL_STATES[call.state]
    text = runs_words.readable(call.arguments)
    asked = call.asked_arguments
    ran = call.state in {"success", "failure"} and (call.size > 0 or call.images > 0)
    return {
        "id": call.id,
        "name": visible(f"{call.server}.{call.tool}" if call.server else call.tool),
        "state": call.state,
        "glyph": glyph,
        "words": words,
        "arguments": text if call.arguments else "",
        "named": runs_words.named(call.arguments)[: runs_words.NAMED_CHARS],
        "folded": len(text) > runs_words.FOLDED_CHARS,
        "asked": runs_words.readable(asked) if asked is not None else None,
        "result": call.preview,
        "more": ran and (call.size > len(call.preview) or call.images > 0),
        "pictures": call.images,
        "facts": wording.DOT.join(
            runs_words.call_facts(call, limit=run.limits.result_chars, now=now)
        ),
    }


def approval_view(approval: Approval, *, now: float) -> dict[str, Any]:
    """What a person decides about. `left` is seconds until it counts as denied."""
    return {
        "call_id": approval.call_id,
        "name": visible(f"{approval.server}.{approval.tool}"),
        "server": approval.server,
        "tool": approval.tool,
        "arguments": runs_words.readable(approval.arguments),
        "arguments_hash": approval.arguments_hash,
        "why": visible(approval.why),
        "hints": runs_words.hints(approval),
        "left": round(max(0.0, approval.expires_at - now), 1),
    }


def allowed_view(allowed: AllowedTool) -> dict[str, Any]:
    """What is not asked about any more, which can be taken back."""
    tool = allowed.tool
    return {
        "server": allowed.server,
        "tool": tool,
        "name": visible(
            f"All tools of {allowed.server}" if tool is None else f"{allowed.server}.{tool}"
        ),
        "words": "as the server and its tools were then" if tool is None else "as it was then",
        "at": allowed.at,
    }


def server_view(server: ToolServer) -> dict[str, Any]:
    """A box to tick in the form of a new run."""
    on = [tool for tool in server.tools if tool.enabled]
    known = wording.DOT.join(
        (runs_words.counted(len(on), "tool"), f"about {runs_words.tokens(server.tokens)} a step")
    )
    return {
        "name": server.name,
        "usable": server.state not in NOT_USABLE,
        "words": NOT_USABLE.get(server.state)
        or (known if server.tools else "Its tools are known once it has run."),
        "problem": server.message if server.state == "failed" else "",
    }
