"""The password kept in a file, for places where nobody is there to think of one."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from api.settings import TOKEN_LENGTH, BadSetting, Settings


def with_token(settings: Settings) -> Settings:
    """The settings with the token of `token_file` read, or made, unless a token is set already.

    Raises BadSetting when the file cannot be used.
    """
    if settings.token is not None or settings.token_file is None:
        return settings
    token = SecretStr(_read_or_make(settings.token_file))
    return settings.model_copy(update={"token": token})


def _read_or_make(path: Path) -> str:
    try:
        if not path.exists():
            _make(path)
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(
            f"The token file {path} cannot be used: {error}.",
            hint="Give the folder to the user LM Desk runs as, or set LMDESK_TOKEN.",
        ) from error
    if len(token) < TOKEN_LENGTH:
        raise BadSetting(
            f"The token in {path} is shorter than {TOKEN_LENGTH} characters.",
            hint="Delete the file to get a new one, or write a longer one.",
        )
    return token


def _make(path: Path) -> None:
    """Write a new token, whole or not at all; whoever of two starters is first wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, written = tempfile.mkstemp(dir=path.parent, prefix=".token-")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
        with suppress(FileExistsError):
            os.link(written, path)
    finally:
        Path(written).unlink(missing_ok=True)
