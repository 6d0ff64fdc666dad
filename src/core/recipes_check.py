"""What would keep a recipe from its end is found before its first step: places, agents, models, tools."""

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from copy import copy

from core.agent_check import UNUSABLE
from core.agents import Agent
from core.chats import Chat
from core.errors import (
    AgentNotFound,
    BadParameter,
    DeskError,
    MessageTooLong,
    ToolServerNotFound,
    ToolServerNotTrusted,
    ToolServerOff,
)
from core.tool_server import ToolServerList
from core.tool_sign_in import ToolServerNeedsSignIn
from core.turn_plan import TurnDraft
from core.turns import TurnService

PLACE = re.compile(r"\{\{\s*(input|previous|step\s*(\d+))\s*\}\}", re.IGNORECASE)
ToolServers = Callable[[], Awaitable[ToolServerList]]


class RecipeChecker:
    """Asks of each step what a turn is asked before it starts. Starts and loads nothing."""

    def __init__(self, turns: TurnService, servers: ToolServers | None = None) -> None:
        """`servers` lists the tool servers there are."""
        self._turns = turns
        self._servers = servers

    async def check(self, steps: Sequence[TurnDraft]) -> None:
        """Raises what would keep one from starting, with the step in its sentence."""
        now = time.time()
        for number, draft in enumerate(steps, 1):
            chat = Chat(id=uuid.uuid4().hex, title="", created_at=now, updated_at=now)
            try:
                plan = await self._turns.check(chat, draft)
                await self._require_tools(plan.agent)
            except DeskError as error:
                raise _of_step(error, number) from error

    async def _require_tools(self, agent: Agent) -> None:
        if self._servers is None or not agent.tools:
            return
        states = {each.name: each.state for each in (await self._servers()).servers}
        for name in dict.fromkeys(tool.server for tool in agent.tools):
            state = states.get(name)
            if state is None:
                raise ToolServerNotFound(
                    f"{agent.name} wants the tool server {name!r}, which is not there now.",
                    hint="See which there are under Tools.",
                )
            if state == "off":
                raise ToolServerOff(UNUSABLE[state].format(name), hint="Switch it on under Tools.")
            if state == "needs_sign_in":
                raise ToolServerNeedsSignIn(
                    UNUSABLE[state].format(name), hint="Sign in under Tools, then run it again."
                )
            if state in ("not_trusted", "changed"):
                raise ToolServerNotTrusted(
                    UNUSABLE[state].format(name), hint="Look at it under Tools, and say yes there."
                )


def check_places(prompts: Sequence[str]) -> None:
    """Raises BadParameter for the answer of a step that does not come before."""
    for number, prompt in enumerate(prompts, 1):
        for place in PLACE.finditer(prompt):
            word = place[1].casefold()
            if word == "input":
                continue
            wanted = number - 1 if word == "previous" else int(place[2][:9])
            if not 0 < wanted < number:
                before = {1: "no step", 2: "step 1"}.get(number, f"steps 1 to {number - 1}")
                raise BadParameter(
                    f"Step {number} asks for {place[0]}, but before it there is {before}.",
                    hint="A step can use the input and the answers of the steps before it.",
                )


def filled(prompt: str, given: str, answers: list[str]) -> str:
    """The prompt with what it asks for; an answer that there is not yet leaves its place as it is."""

    def put(place: re.Match[str]) -> str:
        word = place[1].casefold()
        if word == "input":
            return given
        number = len(answers) if word == "previous" else int(place[2][:9])
        return answers[number - 1] if 0 < number <= len(answers) else place[0]

    return PLACE.sub(put, prompt)


def _of_step(error: DeskError, number: int) -> DeskError:
    told = copy(error)
    told.message = f"Step {number}: {error.message}"
    if isinstance(error, AgentNotFound):
        told.hint = f"{error.hint} Or choose another one for this step."
    if isinstance(error, MessageTooLong):
        told.hint = "Shorten the input, or what the step says."
    return told
