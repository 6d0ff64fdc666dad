"""How tools are called before the model: short, allowed, and each only once."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from core.tools import Tool

MAX_NAME = 64
_ODD = re.compile(r"[^A-Za-z0-9_-]+")
_WORD = re.compile(r"[a-z0-9]+")


def named(tools: Iterable[Tool], *, taken: Iterable[str] = ()) -> dict[str, Tool]:
    """Tools by the name the model uses: their own one, with the server's before it on a clash."""
    tools = list(tools)
    own = Counter(_clean(tool.name) for tool in tools)
    found: dict[str, Tool] = {}
    used = set(taken)
    for tool in tools:
        name = _clean(tool.name)
        if own[name] > 1 or name in used:
            name = _clean(f"{tool.server}_{tool.name}")
        base, number = name, 2
        while name in used:
            ending = f"_{number}"
            name, number = base[: MAX_NAME - len(ending)] + ending, number + 1
        used.add(name)
        found[name] = tool
    return found


def matching(query: str, tools: dict[str, Tool], *, limit: int) -> Sequence[str]:
    """Names of the tools that have most of the query's words, best first."""
    words = set(_WORD.findall(query.casefold()))

    def score(name: str) -> float:
        tool = tools[name]
        named = set(_WORD.findall(f"{tool.server} {tool.name} {name}".casefold().replace("_", " ")))
        told = set(_WORD.findall(tool.description.casefold()))
        return 3 * len(words & named) + len(words & told)

    ranked = sorted((name for name in tools if score(name)), key=lambda name: (-score(name), name))
    return ranked[:limit]


def _clean(name: str) -> str:
    return _ODD.sub("_", name).strip("_")[:MAX_NAME] or "tool"
