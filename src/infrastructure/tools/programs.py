"""Which file a tool server's command really is: what a person says yes to is what is started."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from core.tool_entries import ServerEntry


def with_program(entry: ServerEntry, environment: Mapping[str, str]) -> ServerEntry:
    """The entry with the file its command is now, and where that leads if it is a link."""
    if entry.transport != "stdio" or entry.problem:
        return entry
    found = found_program(entry, environment)
    if found is None:
        return entry
    real = str(Path(found).resolve())
    return entry.model_copy(update={"program": found, "leads_to": "" if real == found else real})


def found_program(entry: ServerEntry, environment: Mapping[str, str]) -> str | None:
    """The file in full; None where there is none."""
    folder = entry.cwd or str(Path.home())
    if os.sep in entry.command or "/" in entry.command:
        path = os.path.normpath(Path(folder, entry.command).absolute())
        return path if Path(path).exists() else None
    own = entry.env.get("PATH")
    path_list = environment.get("PATH", os.defpath) if own is None else own.get_secret_value()
    found = shutil.which(entry.command, path=path_list)
    return None if found is None else os.path.normpath(Path(found).absolute())
