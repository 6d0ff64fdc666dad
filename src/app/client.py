"""The only way screens know the back end: one method for each call of the API.

Answers are the core's own types. Failures are the core's errors, with the API's code, sentence
and hint; a server that does not answer is `ServerUnreachable`.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import anyio
import httpx
from httpx_sse import SSEError

from app.agents_client import AgentCalls
from app.comparisons_client import ComparisonCalls
from app.connection import Connection, known
from app.recipes_client import RecipeCalls
from app.refusals import ServerUnreachable
from app.replies import Acted, JobEvent, TurnStarted
from app.runs_client import RunCalls
from app.tools_client import ToolCalls
from core.chat import Parameters
from core.chats import Chat, ChatPage, Conversation
from core.configured import Changed, Configured, ProviderLook
from core.diagnosis import Diagnosis
from core.download import DownloadInfo
from core.flight import Flight
from core.hardware import HardwareHistory, HardwareSnapshot
from core.hub import HubModel, Offer
from core.jobs import JobInfo
from core.leftovers import Leftover
from core.load_settings import LoadSettingsView
from core.memory_map import MemoryMap
from core.models import LoadOptions, ModelInfo, ProviderHealth
from core.plan import SwapPlan
from core.pulse import Pulse
from core.routing import Route
from core.speeds import LearnedModel
from core.swap import When

# Loads and unloads last as long as they last.
PATIENT = httpx.Timeout(None, connect=3.0)
RESUME_SECONDS = (0.2, 0.5, 1.0, 2.0, 3.0)


class DeskClient(AgentCalls, ComparisonCalls, RecipeCalls, RunCalls, ToolCalls, Connection):
    """Talks to the API. Close it when done."""

    # Models

    async def models(self, *, refresh: bool = False) -> list[ModelInfo]:
        return await self._get(list[ModelInfo], "/models/", refresh=refresh or None)

    async def loaded_models(self) -> list[ModelInfo]:
        return await self._get(list[ModelInfo], "/models/loaded")

    async def search_models(self, query: str) -> list[ModelInfo]:
        return await self._get(list[ModelInfo], "/models/search", q=query)

    async def provider_models(self, provider: str) -> list[ModelInfo]:
        return await self._get(list[ModelInfo], f"/models/{quote(provider)}")

    async def model(self, provider: str, model_id: str) -> ModelInfo:
        return await self._get(ModelInfo, f"/models/{quote(provider)}/{quote(model_id)}")

    async def providers_health(self) -> list[ProviderHealth]:
        return await self._get(list[ProviderHealth], "/models/providers/health")

    async def doctor(self) -> list[Diagnosis]:
        """What is the matter with the way to each provider, found out now."""
        return await self._get(list[Diagnosis], "/doctor")

    async def start_load(
        self, model_id: str, *, context_length: int | None = None, ttl_seconds: int | None = None
    ) -> JobInfo:
        """Begin a load; its job says how it goes."""
        asked = {
            "model_id": model_id,
            "context_length": context_length,
            "ttl_seconds": ttl_seconds,
        }
        return await self._send(
            JobInfo, "POST", "/models/load", known(asked), params={"wait": "false"}
        )

    async def load(self, model_id: str) -> Acted:
        """Load, and return when a re-read shows it."""
        return await self._send(
            Acted, "POST", "/models/load", {"model_id": model_id}, timeout=PATIENT
        )

    async def unload(self, model_id: str, *, force: bool = False) -> Acted:
        """Unload, and return when a re-read no longer shows it."""
        asked = {"model_id": model_id, "force": force}
        return await self._send(Acted, "POST", "/models/unload", asked, timeout=PATIENT)

    async def preview_route(
        self, content: str, *, agent_id: str | None = None, model_id: str | None = "auto"
    ) -> Route:
        """Which models this question would be asked of, best first, and why."""
        asked = {"content": content, "agent_id": agent_id, "model_id": model_id}
        return await self._send(Route, "POST", "/routing/preview", known(asked))

    async def load_plan(self, model_id: str, options: LoadOptions | None = None) -> SwapPlan:
        """What loading this model would need, and what would have to go for it.

        With `options` exactly so, whatever is remembered.
        """
        asked: dict[str, Any] = {"model_id": model_id}
        if options is not None:
            asked |= {"remembered": False, **options.model_dump(exclude_none=True)}
        return await self._get(SwapPlan, "/models/plan", **asked)

    async def load_settings(self, model_id: str) -> LoadSettingsView:
        """How this model is loaded when nobody says otherwise."""
        return await self._get(LoadSettingsView, "/models/settings", model_id=model_id)

    async def keep_load_settings(self, model_id: str, options: LoadOptions) -> LoadSettingsView:
        asked = {"model_id": model_id, **options.model_dump(exclude_none=True)}
        return await self._send(LoadSettingsView, "PUT", "/models/settings", asked)

    async def learned(self) -> list[LearnedModel]:
        """Measured load times, memory and speeds, by model and context."""
        return await self._get(list[LearnedModel], "/models/learned")

    async def start_benchmark(self, model_id: str, *, context_length: int | None = None) -> JobInfo:
        """Begin to measure a model; its job says how it goes."""
        asked = known({"model_id": model_id, "context_length": context_length})
        return await self._send(JobInfo, "POST", "/models/benchmark", asked)

    async def memory_map(self) -> MemoryMap:
        return await self._get(MemoryMap, "/models/memory")

    async def start_swap(self, model_id: str, *, unload: Sequence[str], when: When) -> JobInfo:
        """Begin to unload some and load one; its job says how it goes."""
        asked = {"model_id": model_id, "unload": list(unload), "when": when}
        return await self._send(JobInfo, "POST", "/models/swap", asked)

    # Downloads

    async def leftovers(self) -> list[Leftover]:
        """What broken-off downloads left."""
        return await self._get(list[Leftover], "/downloads/parts")

    async def delete_leftover(self, name: str) -> None:
        await self._request("DELETE", f"/downloads/parts/{quote(name)}")

    async def downloads(self) -> list[DownloadInfo]:
        """Running and lately ended ones, newest first."""
        return await self._get(list[DownloadInfo], "/downloads")

    async def search_hub(self, query: str) -> list[HubModel]:
        return await self._get(list[HubModel], "/downloads/search", q=query)

    async def hub_files(self, model: str) -> Offer:
        """What a repository of the hub has for this machine."""
        return await self._get(Offer, "/downloads/files", model=model)

    async def start_download(
        self, model: str, *, file: str | None = None, provider: str | None = None
    ) -> JobInfo:
        asked = known({"model": model, "file": file, "provider": provider})
        return await self._send(JobInfo, "POST", "/downloads", asked)

    # Chats

    async def create_chat(
        self, *, title: str | None = None, agent_id: str | None = None, model_id: str | None = None
    ) -> Chat:
        asked = {"title": title, "agent_id": agent_id, "model_id": model_id}
        return await self._send(Chat, "POST", "/chats", known(asked))

    async def chats(self, *, query: str = "", limit: int = 50, offset: int = 0) -> ChatPage:
        return await self._get(ChatPage, "/chats", q=query or None, limit=limit, offset=offset)

    async def conversation(self, chat_id: str) -> Conversation:
        return await self._get(Conversation, f"/chats/{quote(chat_id)}")

    async def update_chat(
        self,
        chat_id: str,
        *,
        title: str | None = None,
        agent_id: str | None = None,
        model_id: str | None = None,
        parameters: Parameters | None = None,
        head_id: str | None = None,
    ) -> Chat:
        """Change what is not None."""
        asked = {
            "title": title,
            "agent_id": agent_id,
            "model_id": model_id,
            "parameters": _parameters(parameters),
            "head_id": head_id,
        }
        return await self._send(Chat, "PATCH", f"/chats/{quote(chat_id)}", known(asked))

    async def delete_chat(self, chat_id: str) -> None:
        await self._request("DELETE", f"/chats/{quote(chat_id)}")

    async def restore_chat(self, chat_id: str) -> Chat:
        return await self._send(Chat, "POST", f"/chats/{quote(chat_id)}/restore", {})

    async def start_turn(
        self,
        chat_id: str,
        *,
        content: str | None = None,
        model_id: str | None = None,
        agent_id: str | None = None,
        parameters: Parameters | None = None,
        parent_id: str | None = None,
        as_first: bool = False,
        agent: dict[str, Any] | None = None,
    ) -> TurnStarted:
        """Ask for an answer; its job streams it.

        `parent_id` and content add a sibling; `as_first` does so for a chat's first message, which
        has no parent. `agent` is a draft that answers in place of a kept one.
        """
        asked = {
            "content": content,
            "model_id": model_id,
            "agent_id": agent_id,
            "parameters": _parameters(parameters),
            "parent_id": parent_id,
            "agent": agent,
        }
        body = known(asked) | ({"parent_id": None} if as_first else {})
        return await self._send(TurnStarted, "POST", f"/chats/{quote(chat_id)}/turns", body)

    async def flight(self, message_id: str) -> Flight:
        """How this answer was made."""
        return await self._get(Flight, f"/messages/{quote(message_id)}/flight")

    async def flight_file(self, message_id: str) -> tuple[str, bytes]:
        """The same as a file: its Content-Disposition and its bytes."""
        answer = await self._request("GET", f"/messages/{quote(message_id)}/flight/export")
        return answer.headers["content-disposition"], answer.content

    # Jobs

    async def jobs(self, *, state: str | None = None) -> list[JobInfo]:
        return await self._get(list[JobInfo], "/jobs", state=state)

    async def job(self, job_id: str) -> JobInfo:
        return await self._get(JobInfo, f"/jobs/{quote(job_id)}")

    async def stop_job(self, job_id: str) -> JobInfo:
        """Stop it, and return when it has ended."""
        return await self._send(
            JobInfo, "POST", f"/jobs/{quote(job_id)}/stop", None, timeout=PATIENT
        )

    async def job_events(
        self, job_id: str, *, after: int = 0, merge_ms: int = 0
    ) -> AsyncGenerator[JobEvent]:
        """The job's events behind number `after`, up to its `job.end`.

        A lost connection is taken up again behind the last event seen, nothing lost or doubled.
        Raises ServerUnreachable when the server stays away, JobNotFound when it came back without
        the job.
        """
        failures = 0
        while True:
            try:
                async with aclosing(self._job_events(job_id, after, merge_ms)) as events:
                    async for event in events:
                        failures = 0
                        after = event.number or after
                        yield event
                        if event.type == "job.end":
                            return
            except (httpx.TransportError, SSEError) as error:
                if failures == len(RESUME_SECONDS):
                    raise ServerUnreachable() from error
            if failures == len(RESUME_SECONDS):
                raise ServerUnreachable()
            await anyio.sleep(RESUME_SECONDS[failures])
            failures += 1

    async def _job_events(self, job_id: str, after: int, merge_ms: int) -> AsyncGenerator[JobEvent]:
        path = f"/jobs/{quote(job_id)}/events"
        async with aclosing(self._stream(path, after=after, merge_ms=merge_ms)) as stream:
            async for sent in stream:
                data = json.loads(sent.data)
                number = int(sent.id) if sent.id and data["type"] != "tick" else None
                yield JobEvent(number, data["type"], data)

    # Settings

    async def settings(self) -> Configured:
        """Every setting with where it comes from."""
        return await self._get(Configured, "/settings")

    async def change_settings(
        self, method: str, path: str, body: object = None, *, revision: str | None = None
    ) -> Changed:
        """One of the calls below `/settings` that change something.

        `revision` is the content of the file that the change was made for.
        """
        headers = {"if-match": f'"{revision}"'} if revision else {}
        return await self._send(Changed, method, f"/settings{path}", body, headers=headers)

    async def try_provider(self, asked: dict[str, Any]) -> ProviderLook:
        """What is at an address. Nothing is saved."""
        return await self._send(ProviderLook, "POST", "/settings/providers/test", asked)

    # The rest

    async def hardware(self) -> HardwareSnapshot:
        return await self._get(HardwareSnapshot, "/hardware")

    async def hardware_history(self, *, seconds: int = 300) -> HardwareHistory:
        return await self._get(HardwareHistory, "/hardware/history", seconds=seconds)

    async def pulse(self, chat_id: str | None = None) -> Pulse:
        return await self._get(Pulse, "/pulse", chat_id=chat_id)


def _parameters(parameters: Parameters | None) -> dict[str, Any] | None:
    return None if parameters is None else parameters.model_dump(exclude_none=True)
