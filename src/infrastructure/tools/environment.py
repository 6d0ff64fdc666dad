"""What of our environment a tool server gets: hardly anything, and nothing that is secret."""

import os
import sys
from collections.abc import Iterable, Mapping

from core.tool_entries import ServerEntry

_PASSED_ON = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG")
_PASSED_ON_WINDOWS = (
    *("APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATH", "PATHEXT"),
    *("PROCESSOR_ARCHITECTURE", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "USERNAME", "USERPROFILE"),
)
# LM Desk's own settings hold tokens, so not even a person's list passes them on.
_NEVER = "LMDESK_"


def child_environment(
    entry: ServerEntry, inherit: Iterable[str], ours: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The whole environment of a server."""
    have = os.environ if ours is None else ours
    names = _PASSED_ON_WINDOWS if sys.platform == "win32" else _PASSED_ON
    passed = [*names, *(name for name in inherit if not name.upper().startswith(_NEVER))]
    env = {
        name: have[name]
        for name in passed
        # A shell function in a variable would be run by the next shell.
        if name in have and not have[name].startswith("()")
    }
    return env | {name: value.get_secret_value() for name, value in entry.env.items()}
