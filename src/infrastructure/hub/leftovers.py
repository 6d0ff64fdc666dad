"""Parts of files that broken-off downloads left in the models folder."""

import re
from collections.abc import Container
from pathlib import Path
from typing import Final

from core.leftovers import Leftover

# As `Part` calls them: the file, what its content is known by, and the ending.
_PART: Final = re.compile(r"(.+\.gguf)\.[\w-]{1,12}\.part", re.IGNORECASE)


def find_leftovers(root: Path, busy: Container[Path]) -> list[Leftover]:
    """Those below this folder, the newest first, without the busy ones."""
    found = []
    for path in find_parts(root).values():
        named = _PART.fullmatch(path.name)
        if path in busy or named is None:
            continue
        told = path.stat()
        found.append(
            Leftover(
                name=path.relative_to(root).as_posix(),
                file=path.with_name(named[1]).relative_to(root).as_posix(),
                bytes=told.st_size,
                changed_at=told.st_mtime,
            )
        )
    return sorted(found, key=lambda each: each.changed_at, reverse=True)


def find_parts(root: Path) -> dict[str, Path]:
    """Every part by its name: plain files in `owner/repository`, and nothing that a link leads to."""
    home = root.resolve()
    return {
        path.relative_to(root).as_posix(): path
        for path in root.glob("*/*/*.part")
        if _PART.fullmatch(path.name)
        and path.is_file()
        and path.resolve() == home / path.relative_to(root)
    }
