"""The data folder: there, ours to write in, and ours alone."""

import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from api.settings import BadSetting

LOCK_NAME = "lmdesk.lock"


def require_writable(folder: Path) -> None:
    """Make the folder if need be. Raises BadSetting when nothing can be written there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadSetting(
            f"The data folder {folder} cannot be written: {error.strerror}.",
            hint="Choose another with --data-dir, or make it writable for this user.",
        ) from error


@contextmanager
def claimed(folder: Path) -> Generator[None]:
    """Hold the folder for this process; the system lets go of it however the process ends.

    Two servers on one folder would take each other's running answers for remains of a crash.
    Raises BadSetting when another one has it.
    """
    require_writable(folder)
    with (folder / LOCK_NAME).open("a+b") as lock:
        if not _taken(lock):
            raise BadSetting(
                f"Another LM Desk is using the data folder {folder}.",
                hint="Use that one, end it, or give this one a folder of its own: --data-dir.",
            )
        yield


def _taken(lock: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
