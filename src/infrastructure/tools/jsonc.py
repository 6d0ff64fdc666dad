"""JSON as people write it: with comments and a comma too many, as VS Code allows."""

import json
import re
from typing import Any

_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\\n])*")"""
    r"""|(?P<comment>//[^\n]*|/\*.*?\*/)"""
    r"""|(?P<comma>,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]]))""",
    re.DOTALL,
)


def parse(text: str) -> Any:
    """The value. Raises json.JSONDecodeError, whose line is that of the text as given."""
    return json.loads(_TOKEN.sub(_plain, text.removeprefix("\ufeff")), object_pairs_hook=_once)


def _plain(found: re.Match[str]) -> str:
    if found["text"] is not None:
        return found["text"]
    # As many lines as before, so that an error names the right one.
    return re.sub(r"[^\n]", " ", found[0])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # The first of two equal keys would vanish, and with it what somebody looked at.
    return _Repeated(pairs) if len({key for key, _ in pairs}) < len(pairs) else dict(pairs)


class _Repeated(dict[str, Any]):
    """An object in which a key stands twice; the last one counts, as everywhere."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.repeated = tuple(dict.fromkeys(key for key in keys if keys.count(key) > 1))


def repeated_keys(value: object) -> tuple[str, ...]:
    """Keys that stand twice in this object."""
    return value.repeated if isinstance(value, _Repeated) else ()
