"""A server's tools as a person sees them, with what was chosen for them and what changed."""

from collections.abc import Mapping, Sequence

from core.tool_entries import ServerChoices
from core.tool_server import ToolInfo
from core.tools import Tool


def tool_views(
    choices: ServerChoices, listed: Sequence[Tool] | None, changes: Mapping[str, str]
) -> tuple[ToolInfo, ...]:
    """Those it listed last, or those somebody said yes to while nobody asked it."""
    before = {tool.name: tool.description for tool in choices.known or ()}
    shown = listed if listed is not None else choices.known or ()
    views = []
    for tool in shown:
        chosen = choices.tools.get(tool.name)
        old = before.get(tool.name)
        views.append(
            ToolInfo(
                name=tool.name,
                description=tool.description,
                read_only=tool.read_only,
                destructive=tool.destructive,
                open_world=tool.open_world,
                tokens=tool.tokens,
                enabled=chosen is None or chosen.enabled,
                approval=chosen.approval if chosen else None,
                changed=changes.get(tool.name, ""),
                before=old if tool.name in changes and old != tool.description else None,
                arguments=tool.arguments,
            )
        )
    return tuple(views)
