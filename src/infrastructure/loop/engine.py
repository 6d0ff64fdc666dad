"""The loop itself, which is pydantic-ai's. Imported at the first run only."""

import os
from collections.abc import AsyncIterable
from typing import Any

import httpx2
from openai import AsyncOpenAI
from pydantic_ai import Agent, RunContext, UsageLimits
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import (
    AgentStreamEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider

from core.runs_errors import LoopFailed, RunOver
from core.runs_ports import LoopHost, LoopSpec
from infrastructure.loop.toolset import RETRIES, RunToolset
from infrastructure.loop.transport import RunTransport

# Nobody resolves this name: the transport answers.
NOWHERE = "http://model.invalid/v1"
PROFILE = OpenAIModelProfile(
    # Schemas go out as the tool's server wrote them.
    json_schema_transformer=None,
    supports_tools=True,
    supports_json_schema_output=False,
    openai_supports_strict_tool_definition=False,
    supports_forced_tool_choice=False,
    openai_chat_supports_max_completion_tokens=False,
    openai_chat_send_back_thinking_parts=False,
    openai_supports_reasoning=False,
)
os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")


async def run(spec: LoopSpec, host: LoopHost) -> str:
    """The answer; empty after a last word. Raises what the host raised, or LoopFailed."""
    transport = RunTransport(spec, host)
    async with httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False) as http:
        client = AsyncOpenAI(base_url=NOWHERE, api_key="none", max_retries=0, http_client=http)
        agent: Agent[None, str] = Agent(
            OpenAIChatModel(
                "model", provider=OpenAIProvider(openai_client=client), profile=PROFILE
            ),
            name="run",
            instructions=spec.instructions or None,
            toolsets=[RunToolset(spec, host)] if spec.tools else [],
            retries=RETRIES,
        )
        watch = _Watch(host)
        try:
            done = await agent.run(
                spec.task,
                usage_limits=UsageLimits(request_limit=None),
                event_stream_handler=watch.follow,
            )
        except (AgentRunError, RunOver) as error:
            if (question := host.last_question()) is not None:
                await transport.last_word(question)
                return ""
            if isinstance(error, RunOver):
                raise
            raise LoopFailed(
                f"The model could not go on: {_first_line(error)}",
                hint="Another model may do better, or a smaller task.",
            ) from error
    return done.output


class _Watch:
    """Tells the run of calls that never reach a tool; it hears of all else by itself."""

    def __init__(self, host: LoopHost) -> None:
        self._host = host
        self._invalid: dict[str, FunctionToolCallEvent] = {}

    async def follow(self, ctx: RunContext[None], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            if isinstance(event, FunctionToolCallEvent) and event.args_valid is False:
                self._invalid[event.tool_call_id] = event
            elif isinstance(event, FunctionToolResultEvent):
                call = self._invalid.pop(event.tool_call_id, None)
                if call is not None:
                    self._tell(call, event.part.content)

    def _tell(self, call: FunctionToolCallEvent, content: Any) -> None:
        self._host.invalid(call.tool_call_id, call.part.tool_name, call.part.args, str(content))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
