"""Opens the database: the file, its settings, and the migrations it lacks."""

import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from core.errors import StorageError
from infrastructure.storage.faults import storage_faults
from infrastructure.storage.schema import SCHEMA_VERSION
from infrastructure.storage.store import SqlChatStore

MIGRATIONS = Path(__file__).parent / "migrations"

# WAL lets everybody read while one writes. NORMAL survives a killed process; a power cut may cost
# the last moments, never the file. The timeout comes first, because the switch to WAL needs a lock.
PRAGMAS = (
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -16000",
)


def sqlite_url(data_dir: Path) -> str:
    """Where the database of this data folder is."""
    path = (data_dir / "lmdesk.db").absolute()
    return URL.create("sqlite+aiosqlite", database=str(path)).render_as_string(hide_password=False)


@asynccontextmanager
async def open_store(
    url: str, *, clock: Callable[[], float] = time.time
) -> AsyncGenerator[SqlChatStore]:
    """The store at this address, brought up to date; closed at the end.

    A missing file and folder are created, readable by their owner alone. Raises StorageError.
    """
    address = _file_address(url)
    with storage_faults():
        _create_private(Path(str(address.database)))
    engine = _engine(address)
    try:
        with storage_faults():
            async with engine.execution_options(lmdesk_writes=True).begin() as connection:
                await connection.run_sync(_migrate)
        store = SqlChatStore(engine, clock=clock)
    except BaseException:
        await engine.dispose()
        raise
    try:
        yield store
    finally:
        await store.aclose()


def _file_address(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError:
        raise StorageError(
            "The database address cannot be read.",
            hint="It looks like sqlite:////home/you/lmdesk.db.",
        ) from None
    if address.get_backend_name() != "sqlite" or address.database in (None, "", ":memory:"):
        raise StorageError(
            f"LM Desk cannot keep chats in a {address.get_backend_name()} database of this kind.",
            hint="Give an address such as sqlite:////home/you/lmdesk.db.",
        )
    return address.set(drivername="sqlite+aiosqlite")


def _create_private(path: Path) -> None:
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives its -wal and -shm files the permissions of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _engine(address: URL) -> AsyncEngine:
    engine = create_async_engine(
        address,
        pool_size=4,
        max_overflow=0,
        # A long conversation has thousands of small JSON values.
        json_deserializer=orjson.loads,
        # Transactions are ours to begin, below; Python's own begin too late for a stable read.
        connect_args={"isolation_level": None},
    )
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _set_pragmas(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    try:
        for pragma in PRAGMAS:
            cursor.execute(pragma)
    finally:
        cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and wants to write later may find it cannot; so writers say so.
    writes = connection.get_execution_options().get("lmdesk_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(connection: Connection) -> None:
    current = _version(connection)
    if current == SCHEMA_VERSION:
        return
    # Alembic costs a fifth of a second to import, and most starts need none of it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise StorageError(
            "The chat database was written by a newer LM Desk.",
            hint="Update LM Desk, or give it another data folder.",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    version = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if version is None else str(version)
