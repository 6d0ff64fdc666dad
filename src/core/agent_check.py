"""What is amiss about an agent while it is being written: found out as one types."""

from collections.abc import Awaitable, Callable
from typing import Literal

from core.agents import AgentDraft
from core.families import has_reasoning, has_tools, has_vision
from core.instructions import VARIABLES, unknown_variables
from core.library import ModelLibrary
from core.models import ModelInfo
from core.ports import TokenCounter
from core.routing import context_of, rank_in, tokens_in
from core.tool_server import ToolServer, ToolServerList
from core.value import Value

# Instructions beyond this share of the window leave too little for the conversation.
WINDOW_SHARE = 0.5

Weight = Literal["note", "problem"]
ToolServers = Callable[[], Awaitable[ToolServerList]]
UNUSABLE = {
    "not_trusted": "Nobody has said yes to {} yet, so it is not started.",
    "changed": "{} is not what somebody said yes to, so it is not started.",
    "off": "{} is switched off.",
    "needs_sign_in": "{} wants you to sign in first: see Tools.",
}


class AgentProblem(Value):
    """One thing that is amiss."""

    field: str
    """Which part of the agent: `models`, `instructions`, `tools`, `needs`."""
    code: str
    message: str
    weight: Weight = "problem"


class AgentCheck(Value):
    """All there is to say about a draft."""

    tokens: int
    """Of the instructions."""
    exact: bool
    """Counted by a model that is in memory; otherwise reckoned."""
    model_id: str | None
    """The model it would be asked of, as far as can be said now; full name."""
    window: int | None
    """Tokens that model holds."""
    problems: tuple[AgentProblem, ...] = ()


class AgentChecker:
    """Looks at drafts; loads nothing and asks no provider for more than a count."""

    def __init__(self, library: ModelLibrary, servers: ToolServers | None = None) -> None:
        """`servers` lists the tool servers there are."""
        self._library = library
        self._servers = servers

    async def check(self, draft: AgentDraft) -> AgentCheck:
        """Never raises for a draft that is amiss."""
        models = [m for m in await self._library.models() if m.kind == "llm"]
        model = await self._model(draft, models)
        tokens, exact = await self._count(draft.instructions, model)
        window = context_of(model) if model else None
        problems = [
            *_models(draft, models),
            *_needs(draft, model),
            *_instructions(draft, tokens, window),
            *await self._tools(draft),
        ]
        return AgentCheck(
            tokens=tokens,
            exact=exact,
            model_id=model.full_name if model else None,
            window=window,
            problems=tuple(problems),
        )

    async def _model(self, draft: AgentDraft, models: list[ModelInfo]) -> ModelInfo | None:
        ranked = [(rank_in(draft.models, model), model) for model in models]
        there = [(r, m) for r, m in ranked if r is not None and m.stale_since is None]
        if there:
            return min(there, key=lambda each: (each[0], not each[1].loaded))[1]
        return await self._library.default_model()

    async def _count(self, text: str, model: ModelInfo | None) -> tuple[int, bool]:
        if model is not None and model.loaded:
            provider = self._library.provider(model.provider)
            if isinstance(provider, TokenCounter):
                counted = await provider.count_tokens(model.instances[0].id, text)
                if counted is not None:
                    return counted, True
        return (tokens_in([text]) if text else 0), False

    async def _tools(self, draft: AgentDraft) -> list[AgentProblem]:
        if self._servers is None or not draft.tools:
            return []
        known = {server.name: server for server in (await self._servers()).servers}
        wanted = dict.fromkeys(tool.server for tool in draft.tools)
        found = [problem for name in wanted if (problem := _server(name, known.get(name)))]
        for tool in draft.tools:
            server = known.get(tool.server)
            if server is None or tool.tool is None or not server.tools:
                continue
            if tool.tool not in {each.name for each in server.tools}:
                message = f"{tool.server} has no tool {tool.tool!r}."
                found.append(AgentProblem(field="tools", code="tool_not_found", message=message))
        return found


def _server(name: str, server: ToolServer | None) -> AgentProblem | None:
    if server is None:
        message = f"There is no tool server {name!r} now."
        return AgentProblem(field="tools", code="tool_server_not_found", message=message)
    if server.state == "failed":
        message = f"{name}: {server.message or 'it could not be started.'}"
        return AgentProblem(field="tools", code="tool_server_failed", message=message)
    if server.state in UNUSABLE:
        message = UNUSABLE[server.state].format(name)
        code = f"tool_server_{server.state}"
        return AgentProblem(field="tools", code=code, message=message, weight="note")
    return None


def _models(draft: AgentDraft, models: list[ModelInfo]) -> list[AgentProblem]:
    found = []
    for wanted in draft.models:
        fitting = [model for model in models if rank_in([wanted], model) is not None]
        if not fitting:
            message = f"No model here is called {wanted!r}."
            found.append(AgentProblem(field="models", code="model_not_found", message=message))
        elif all(model.stale_since is not None for model in fitting):
            message = f"{wanted}: its provider cannot be reached now."
            found.append(
                AgentProblem(
                    field="models", code="provider_unreachable", message=message, weight="note"
                )
            )
    return found


def _needs(draft: AgentDraft, model: ModelInfo | None) -> list[AgentProblem]:
    if model is None:
        return []
    needs = {*draft.needs, *(["tools"] if draft.tools else [])}
    lacks = [
        *(["cannot see pictures"] if "vision" in needs and not has_vision(model) else []),
        *(["is not known to use tools"] if "tools" in needs and not has_tools(model) else []),
        *(
            ["is not known to think before it answers"]
            if "reasoning" in needs and not has_reasoning(model)
            else []
        ),
    ]
    return [
        AgentProblem(
            field="needs", code="ability_missing", message=f"{model.name} {lack}.", weight="note"
        )
        for lack in lacks
    ]


def _instructions(draft: AgentDraft, tokens: int, window: int | None) -> list[AgentProblem]:
    found = [
        AgentProblem(
            field="instructions",
            code="unknown_variable",
            message=f"{{{{{name}}}}} is no variable. There are: {', '.join(VARIABLES)}.",
            weight="note",
        )
        for name in unknown_variables(draft.instructions)
    ]
    if window is not None and tokens > window * WINDOW_SHARE:
        found.append(
            AgentProblem(
                field="instructions",
                code="instructions_too_long",
                message=f"The instructions take {tokens:,} of the {window:,} tokens the model"
                " holds: little is left for the conversation.",
            )
        )
    return found
