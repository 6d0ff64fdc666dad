"""RunToolset: the run's tools as pydantic-ai wants them. Each call goes through the run."""

import base64
from collections.abc import Sequence
from typing import Any, Final

import orjson
from pydantic_ai import BinaryContent, RunContext
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from core import running_plan
from core.runs_ports import LoopHost, LoopSpec, Outcome
from core.runs_text import clean
from core.tools import Tool
from infrastructure.loop.tool_names import matching, named

# With more of the window than this taken by descriptions, they are given on demand.
MOST_OF_WINDOW = 1 / 3
# So many at a time.
FOUND = 5
SEARCH: Final = "search_tools"
RETRIES = 3
_ANY_OBJECT = SchemaValidator(
    core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())
)
_SEARCH_SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What the tool should do."}},
    "required": ["query"],
}


class RunToolset(AbstractToolset[None]):
    """Those of one run."""

    def __init__(self, spec: LoopSpec, host: LoopHost) -> None:
        self._host = host
        self._vision = spec.vision
        self._on_demand = _too_many(spec)
        self._plan = spec.plan
        ours = [*([SEARCH] if self._on_demand else []), *([running_plan.NAME] if spec.plan else [])]
        self._tools = named(spec.tools, taken=ours)
        self._found: list[str] = []
        if self._on_demand:
            count = len(self._tools)
            host.notice(
                "tools_on_demand",
                f"{count} tools would fill over a third of the context; the model looks them up.",
            )

    @property
    def id(self) -> str | None:
        return "run"

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        """Those the model is told of with its next request."""
        plan = {running_plan.NAME: self._plan_tool()} if self._plan else {}
        if not self._on_demand:
            return {name: self._wrapped(name, tool) for name, tool in self._tools.items()} | plan
        names = {name: self._wrapped(name, self._tools[name]) for name in self._found}
        count = len(self._tools)
        search = ToolDefinition(
            name=SEARCH,
            description=f"Finds tools by what they do. There are {count}; use it first.",
            parameters_json_schema=_SEARCH_SCHEMA,
        )
        return {SEARCH: self._tool(search), **names, **plan}

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[None], tool: ToolsetTool[None]
    ) -> Any:
        """What the model gets."""
        call_id = ctx.tool_call_id or ""
        if name == SEARCH and self._on_demand:
            return self._search(call_id, tool_args)
        if name == running_plan.NAME and self._plan:
            return self._host.planned(tool_args)
        outcome = await self._host.call(call_id, self._tools[name], tool_args)
        return self._shown(outcome)

    def _search(self, call_id: str, arguments: dict[str, Any]) -> str:
        query = str(arguments.get("query", ""))
        fresh = matching(query, self._tools, limit=FOUND)
        # The newest ones: a small window has no room for all that were ever found.
        kept = [name for name in self._found if name not in fresh]
        self._found = [*kept, *fresh][-2 * FOUND :]
        lines = [f"- {name}: {self._tools[name].description}" for name in fresh]
        told = "You can call these now:\n" + "\n".join(lines) if lines else _nothing(self._tools)
        self._host.looked_up(call_id, SEARCH, arguments, told)
        return told

    def _shown(self, outcome: Outcome) -> Any:
        if not outcome.images:
            return outcome.text
        if self._vision:
            pictures = [
                BinaryContent(base64.b64decode(image.data), media_type=image.media_type)
                for image in outcome.images
            ]
            return [outcome.text or "A picture.", *pictures]
        notes = [
            f"[A picture, {image.media_type}: the person sees it, you cannot.]"
            for image in outcome.images
        ]
        return "\n".join([*([outcome.text] if outcome.text else []), *notes])

    def _wrapped(self, name: str, tool: Tool) -> ToolsetTool[None]:
        schema = tool.arguments or {"type": "object", "properties": {}}
        return self._tool(
            ToolDefinition(
                name=name,
                description=clean(tool.description),
                parameters_json_schema=clean(schema),
            )
        )

    def _plan_tool(self) -> ToolsetTool[None]:
        definition = ToolDefinition(
            name=running_plan.NAME,
            description=running_plan.DESCRIPTION,
            parameters_json_schema=dict(running_plan.ARGUMENTS),
        )
        return ToolsetTool(
            toolset=self, tool_def=definition, max_retries=RETRIES, args_validator=_Anything()
        )

    def _tool(self, definition: ToolDefinition) -> ToolsetTool[None]:
        return ToolsetTool(
            toolset=self, tool_def=definition, max_retries=RETRIES, args_validator=_ANY_OBJECT
        )


class _Anything:
    """Takes whatever the model wrote: a plan that cannot be read must not count against the run."""

    def validate_json(self, input: str | bytes | bytearray, **options: Any) -> Any:
        try:
            return self.validate_python(orjson.loads(input))
        except orjson.JSONDecodeError:
            return {}

    def validate_python(self, input: Any, **options: Any) -> Any:
        return input if isinstance(input, dict) else {"items": input}


def _too_many(spec: LoopSpec) -> bool:
    tokens = sum(tool.tokens or _guessed(tool) for tool in spec.tools)
    window = spec.context_length
    return window is not None and len(spec.tools) > 2 and tokens > window * MOST_OF_WINDOW


def _guessed(tool: Tool) -> int:
    return (len(tool.description) + len(str(tool.arguments))) // 4


def _nothing(tools: dict[str, Tool]) -> str:
    names: Sequence[str] = list(tools)
    return f"No tool matches. There are: {', '.join(names[:60])}."
