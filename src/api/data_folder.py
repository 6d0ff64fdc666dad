"""The data folder: there, and ours to write in."""

import tempfile
from pathlib import Path

from api.settings import BadSetting


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
