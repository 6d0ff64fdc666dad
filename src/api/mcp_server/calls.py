"""What our MCP tools do, as calls of LM Desk's own API: the running desk's, or one in this process."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import httpx

from core.errors import DeskError

# A tool answers within this much of the client's patience, of which many have only 60 s.
WAIT_SECONDS = 45.0
LONGEST_WAIT_SECONDS = 3600.0
LOOK_SECONDS = 0.25
# What a client gave up is ended within this, or left to the desk.
END_SECONDS = 30.0
# As they are given out. Anything else in a path could lead to another part of the API.
_RUN_ID = re.compile(r"[0-9a-f]{32}")
# Of what a step was done for, a client gets the beginning.
WHY_CHARS = 500
# Beyond its result a call carries facts about its way, told as progress.
OnProgress = Callable[[float, str], Awaitable[None]]


class Refused(Exception):
    """The desk said no; the text is for the model that asked."""

    def __init__(self, text: str, code: str = "") -> None:
        """`code` is the desk's word for it; empty where it gave none."""
        super().__init__(text)
        self.code = code


class DeskCalls:
    """The API, in the words of the tools."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """`http` reaches an LM Desk: its root, with the token if there is one."""
        self._http = http

    async def models(self) -> list[dict[str, Any]]:
        """Every model that can be asked, the loaded ones first."""
        listed = await self._get("/api/v1/models/")
        return [
            {
                "id": model["full_name"],
                "name": model["name"],
                "kind": model["kind"],
                "loaded": model["loaded"] or not model["loadable"],
                "context_length": _context(model),
                "quantization": model["quantization"],
                "capabilities": [name for name, has in model["capabilities"].items() if has],
            }
            for model in sorted(listed, key=lambda each: not each["loaded"])
            if model["stale_since"] is None
        ]

    async def health(self) -> dict[str, Any]:
        """Whether there is anything to answer with, and how each provider is."""
        healths = await self._get("/api/v1/models/providers/health")
        return {
            "healthy": any(each["state"] == "ready" for each in healths),
            "providers": [
                {
                    "name": each["provider"],
                    "state": each["state"],
                    "message": " ".join(filter(None, (each["message"], each["hint"]))),
                }
                for each in healths
            ],
        }

    async def current_model(self) -> dict[str, Any]:
        """The language models in memory; the first one is what a request without a name gets."""
        loaded = [model for model in await self.models() if model["loaded"]]
        chatty = [model for model in loaded if model["kind"] == "llm"]
        return {"model": chatty[0] if chatty else None, "others": chatty[1:]}

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """One answer over the gateway: its text, who wrote it and what it took."""
        answer = await self._send("POST", "/v1/chat/completions", body)
        try:
            told = answer.json()
            choice = told["choices"][0]
            message = choice["message"]
        except (ValueError, LookupError, TypeError) as error:
            raise Refused(_not_an_answer(answer)) from error
        return {
            "content": message.get("content") or "",
            "reasoning": message.get("reasoning_content") or message.get("reasoning"),
            "model": answer.headers.get("x-lmdesk-model"),
            "finish_reason": choice.get("finish_reason"),
            "usage": told.get("usage"),
        }

    async def load(
        self, model_id: str, context_length: int | None, wait: float, told: OnProgress
    ) -> dict[str, Any]:
        """Load it, and wait so long for it.

        Given up meanwhile it ends, unless somebody else had begun it.
        """
        body = {"model_id": model_id, "context_length": context_length}
        running = await self._get("/api/v1/jobs?state=running&kind=load")
        others = {str(each["id"]) for each in running}
        async with self._begun("/api/v1/models/load?wait=false", body, "jobs", others) as job_id:
            ended = await self._watch(f"/api/v1/jobs/{job_id}", wait, told)
        if ended["state"] == "failed":
            raise Refused(_sentence(ended["error"] or {}))
        return {"model": ended["model_id"], "status": ended["state"], "progress": ended["progress"]}

    async def unload(self, model_id: str, *, force: bool) -> dict[str, Any]:
        """Take it out of memory."""
        return await self._json(
            "POST", "/api/v1/models/unload", {"model_id": model_id, "force": force}
        )

    async def start_run(
        self, body: dict[str, Any], wait: float, told: OnProgress
    ) -> dict[str, Any]:
        """Start an agent's run, and wait so long for its end. Given up meanwhile it is stopped."""
        async with self._begun("/api/v1/runs", body, "runs") as run_id:
            return await self.run(run_id, wait, told)

    async def start_run_with_all(
        self, body: dict[str, Any], wait: float, told: OnProgress
    ) -> dict[str, Any]:
        """The same with every trusted server; `left_out` says which could not be used, and why."""
        names = await self.tool_servers()
        if not names:
            raise Refused(
                "There is no trusted tool server. Trust one at the desk first: Tools in its page."
            )
        left_out: dict[str, str] = {}
        while names:
            try:
                run = await self.start_run({**body, "servers": names}, wait, told)
            except Refused as refused:
                broken = await self._broken(names) if refused.code.startswith("tool") else {}
                if not broken:
                    raise
                left_out |= broken
                names = [name for name in names if name not in broken]
            else:
                said = [{"server": name, "why": why} for name, why in left_out.items()]
                return {**run, **({"left_out": said} if said else {})}
        whys = " ".join(left_out.values())
        raise Refused(f"None of the trusted tool servers can be used. {whys}")

    async def run(self, run_id: str, wait: float, told: OnProgress) -> dict[str, Any]:
        """How a run is, after so long or at its end."""
        return _run_view(await self._watch(_run_path(run_id), wait, told))

    async def cancel_run(self, run_id: str) -> dict[str, Any]:
        """End a run; what it did stays."""
        path = _run_path(run_id)
        await self._json("POST", f"{path}/stop", None)
        return _run_view(await self._get(path))

    async def tool_servers(self) -> list[str]:
        """Those a run may use: trusted, and switched on."""
        return [
            str(each["name"])
            for each in await self._servers()
            if each["trusted"] and each["enabled"]
        ]

    # -- inside ----------------------------------------------------------------------------------

    async def _servers(self) -> list[dict[str, Any]]:
        servers: list[dict[str, Any]] = (await self._get("/api/v1/tool-servers"))["servers"]
        return servers

    async def _broken(self, names: Collection[str]) -> dict[str, str]:
        """Why those of these that cannot be used now cannot."""
        now = {each["name"]: each for each in await self._servers()}
        whys = {}
        for name in names:
            server = now.get(name)
            if server is None:
                whys[name] = f"The tool server {name} is no longer there."
            elif server["state"] not in ("idle", "asleep", "starting", "ready"):
                words = (server["message"] or f"{name} is {server['state']}.", server["hint"])
                whys[name] = " ".join(filter(None, words))
        return whys

    @asynccontextmanager
    async def _begun(
        self, path: str, body: object, kind: str, others: Collection[str] = ()
    ) -> AsyncGenerator[str]:
        """The id of what this starts, which ends if it is given up in here or while it starts.

        `kind` is where it lies in the API; one of `others` is not ours to end.
        """
        starting = asyncio.ensure_future(self._json("POST", path, body))
        try:
            begun = await asyncio.shield(starting)
            yield _id_of(begun)
        except asyncio.CancelledError:
            # The client's patience is over, so nobody would ever learn its id.
            with anyio.move_on_after(END_SECONDS, shield=True), suppress(Refused):
                begun_id = _id_of(await starting)
                if begun_id not in others:
                    await self._json("POST", f"/api/v1/{kind}/{begun_id}/stop", None)
            raise

    async def _watch(self, path: str, wait: float, told: OnProgress) -> dict[str, Any]:
        """What is at the path as soon as it no longer runs, or when the wait is over."""
        until = time.monotonic() + min(max(0.0, wait), LONGEST_WAIT_SECONDS)
        said = ""
        while True:
            state: dict[str, Any] = await self._get(path)
            words, share = _where(state)
            if words != said:
                said = words
                await told(share, words)
            left = until - time.monotonic()
            if state["state"] != "running" or left <= 0:
                return state
            await asyncio.sleep(min(LOOK_SECONDS, left))

    async def _get(self, path: str) -> Any:
        return (await self._send("GET", path, None)).json()

    async def _json(self, method: str, path: str, body: object, **options: Any) -> dict[str, Any]:
        answer = await self._send(method, path, body, **options)
        told: dict[str, Any] = answer.json()
        return told

    async def _send(self, method: str, path: str, body: object, **options: Any) -> httpx.Response:
        try:
            answer = await self._http.request(
                method, path, json=body, timeout=LONGEST_WAIT_SECONDS, **options
            )
        except DeskError as error:
            raise Refused(f"{error.message} {error.hint}".strip(), error.code) from error
        except httpx.TransportError as error:
            raise Refused("LM Desk does not answer any more. Start it with: lmdesk") from error
        if answer.is_error:
            raise _refusal(answer)
        return answer


def _refusal(answer: httpx.Response) -> Refused:
    try:
        told = answer.json()
    except ValueError:
        return Refused(f"LM Desk answered {answer.status_code}.")
    error = told.get("error") if isinstance(told, dict) else None
    problem: dict[str, Any] = error if isinstance(error, dict) else told
    return Refused(_sentence(problem), str(problem.get("code") or ""))


def _run_path(run_id: str) -> str:
    if not _RUN_ID.fullmatch(run_id):
        raise Refused(
            f"{run_id[:80]!r} is no run. Use the run_id that starting it gave.", "run_not_found"
        )
    return f"/api/v1/runs/{run_id}"


def _id_of(begun: dict[str, Any]) -> str:
    return str(begun.get("run_id") or begun["id"])


def _not_an_answer(answer: httpx.Response) -> str:
    who = answer.headers.get("x-lmdesk-model")
    of = f" of {who}" if who else ""
    how = " It was sent in pieces, which was not asked for." if _is_stream(answer) else ""
    return f"What came back from the provider{of} is not a whole answer.{how}"


def _is_stream(answer: httpx.Response) -> bool:
    kind = str(answer.headers.get("content-type", ""))
    return kind.startswith("text/event-stream") or answer.content.lstrip().startswith(b"data:")


def _sentence(problem: dict[str, Any]) -> str:
    message = problem.get("detail") or problem.get("message") or "It failed."
    return " ".join(filter(None, (str(message), str(problem.get("hint") or ""))))


def _context(model: dict[str, Any]) -> int | None:
    for instance in model["instances"]:
        if instance["context_length"]:
            return int(instance["context_length"])
    length: int | None = model["context_length"]
    return length


def _where(state: dict[str, Any]) -> tuple[str, float]:
    """Words and a figure that only grows, for MCP's progress."""
    steps = state.get("steps")
    if isinstance(steps, list):
        calls = [call for step in steps for call in step["calls"]]
        doing = f"{calls[-1]['server']}.{calls[-1]['tool']}" if calls else "thinking"
        now = next(
            (each for each in state.get("plan") or () if each["state"] == "in_progress"), None
        )
        at = f" ({now['text']})" if now else ""
        return f"step {len(steps)}: {doing}{at}", float(len(steps) + len(calls))
    phase, share = state.get("phase") or "queued", state.get("progress") or 0.0
    return f"{phase} {share:.0%}", float(share)


def _run_view(run: dict[str, Any]) -> dict[str, Any]:
    shown = {key: run.get(key) for key in ("state", "reason", "output", "model_id", "usage")}
    error = run.get("error")
    pending = [f"{each['server']}.{each['tool']}" for each in run.get("approvals") or []]
    return {
        "run_id": run["id"],
        **shown,
        **({"plan": plan} if (plan := run.get("plan")) else {}),
        "steps": [_step_view(step) for step in run.get("steps") or []],
        **({"error": _sentence(error)} if isinstance(error, dict) else {}),
        **({"waits_for_approval": pending} if pending else {}),
    }


def _step_view(step: dict[str, Any]) -> dict[str, Any]:
    """A step without what only a screen has room for."""
    told = ("server", "tool", "arguments", "state", "preview", "seconds")
    return {
        "number": step["number"],
        "why": step["why"][:WHY_CHARS],
        "calls": [{key: call[key] for key in told} for call in step["calls"]],
    }
