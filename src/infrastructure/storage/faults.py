"""What a database's complaints mean to a person."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from core.errors import StorageError

_SENTENCES = {
    sqlite3.SQLITE_FULL: (
        "The disk is full, so chats cannot be saved.",
        "Free some space; nothing saved so far is lost.",
    ),
    sqlite3.SQLITE_READONLY: (
        "The chat database cannot be written.",
        "Check the permissions of LM Desk's data folder and the files in it.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "The chat database cannot be opened.",
        "Check that LM Desk's data folder exists and that you may write to it.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "The chat database is damaged.",
        "Move the file away to start afresh, or put a backup in its place.",
    ),
    sqlite3.SQLITE_NOTADB: (
        "The chat database is damaged, or the file is something else.",
        "Move the file away to start afresh, or put a backup in its place.",
    ),
    sqlite3.SQLITE_BUSY: (
        "The chat database is in use by another program.",
        "Close other copies of LM Desk and anything else that has the file open.",
    ),
    sqlite3.SQLITE_IOERR: (
        "The disk reported an error while chats were read or written.",
        "Check that the disk is connected, has space and is healthy.",
    ),
}
_SENTENCES[sqlite3.SQLITE_PERM] = _SENTENCES[sqlite3.SQLITE_READONLY]
_SENTENCES[sqlite3.SQLITE_LOCKED] = _SENTENCES[sqlite3.SQLITE_BUSY]


@contextmanager
def storage_faults() -> Generator[None]:
    """Turn what the database and the file system raise into StorageError."""
    try:
        yield
    except DBAPIError as error:
        raise _translated(error.orig or error) from error
    except SQLAlchemyError as error:
        raise _translated(error) from error
    except (sqlite3.Error, OSError) as error:
        raise _translated(error) from error


def _translated(error: BaseException) -> StorageError:
    if isinstance(error, OSError):
        return StorageError(
            f"LM Desk's data folder cannot be used: {error.strerror or error}.",
            hint=f"Check that you may write to {error.filename}."
            if error.filename
            else "Check that the folder exists and that you may write to it.",
        )
    # The low byte is the kind; the rest says which of its many reasons.
    kind = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if kind in _SENTENCES:
        message, hint = _SENTENCES[kind]
        return StorageError(message, hint=hint)
    return StorageError(
        "Chats cannot be read or written.", hint=f"The database says: {_first_line(error)}"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
