"""The database as a file: private, durable, shared, damaged, full, too new."""

import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from core.errors import StorageError
from infrastructure.storage import open_store, sqlite_url
from infrastructure.storage.opening import MIGRATIONS
from infrastructure.storage.schema import SCHEMA_VERSION, metadata
from tests.integration.test_store import chat_with, found, said

pytestmark = pytest.mark.anyio

SOURCE = Path(__file__).parents[2] / "src"

WRITER = """
import sys
from pathlib import Path
import anyio
from core.chats import Message
from infrastructure.storage import open_store, sqlite_url

async def main():
    async with open_store(sqlite_url(Path(sys.argv[1]))) as store:
        chat = await store.create_chat(title="Long tale")
        answer = Message(id="a", chat_id=chat.id, role="assistant", status="writing",
                         job_id="j", created_at=1.0)
        await store.add_messages([answer], head_id="a")
        text = ""
        for n in range(1_000_000):
            text += f"{n} "
            await store.write_text("a", content=text, reasoning="hm")
            print(n, flush=True)

anyio.run(main)
"""


def database(data_dir: Path) -> Path:
    return data_dir / "lmdesk.db"


async def test_the_text_of_a_killed_process_is_kept_and_marked_interrupted(tmp_path: Path) -> None:
    promised = await anyio.to_thread.run_sync(write_until_killed, tmp_path)

    async with open_store(sqlite_url(tmp_path)) as store:
        chat = (await store.list_chats()).chats[0]
        (partial,) = (await store.conversation(chat.id)).messages
        assert chat.running_job_id == "j"
        assert partial.status == "writing"
        assert partial.content.startswith("".join(f"{n} " for n in range(promised + 1)))
        assert await store.mark_interrupted(reason="server_stopped") == 1

        (kept,) = (await store.conversation(chat.id)).messages
        assert (kept.status, kept.reason) == ("interrupted", "server_stopped")
        assert (kept.content, kept.reasoning) == (partial.content, "hm")
        assert (await store.chat(chat.id)).running_job_id is None
        assert await found(store, str(promised)) == [chat.id]


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)) as store:
        chat_id = await chat_with(store, "Hello", "World")
        before = await store.conversation(chat_id)

    async with open_store(sqlite_url(tmp_path)) as store:
        assert await store.conversation(chat_id) == before


async def test_folder_and_files_are_private(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    before = os.umask(0)
    try:
        async with open_store(sqlite_url(data_dir)) as store:
            await store.create_chat()
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()}
    finally:
        os.umask(before)

    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert set(modes) == {"lmdesk.db", "lmdesk.db-wal", "lmdesk.db-shm"}
    assert set(modes.values()) == {0o600}


async def test_it_writes_ahead_and_leaves_one_file_when_closed(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)) as store:
        await store.create_chat()

    assert [str(path.name) async for path in anyio.Path(tmp_path).iterdir()] == ["lmdesk.db"]
    with closing(sqlite3.connect(database(tmp_path))) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("name", ["with space", "ünïcode", "a%20b", "a#b", "a?b", "a&b;c@d"])
async def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    async with open_store(sqlite_url(tmp_path / name)) as store:
        await store.create_chat()

    assert database(tmp_path / name).is_file()


async def test_the_plain_sqlite_address_works_too(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/own.db") as store:
        await store.create_chat()

    assert (tmp_path / "own.db").is_file()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "postgresql://u:secret@h/db", "sqlite://", "sqlite:///:memory:"]
)
async def test_an_address_that_cannot_be_used_says_so(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        async with open_store(url):
            pass

    assert caught.value.hint
    assert "secret" not in caught.value.message + caught.value.hint


async def test_a_folder_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")

    with pytest.raises(StorageError, match="data folder") as caught:
        async with open_store(sqlite_url(tmp_path / "data")):
            pass

    assert str(tmp_path) in caught.value.hint


async def test_a_database_that_is_a_folder_says_so(tmp_path: Path) -> None:
    database(tmp_path).mkdir()

    with pytest.raises(StorageError) as caught:
        async with open_store(sqlite_url(tmp_path)):
            pass

    assert caught.value.hint


async def test_a_database_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)) as store:
        await store.create_chat(title="Old")

    with (
        every_connection("PRAGMA query_only = ON"),
        pytest.raises(StorageError, match="cannot be written") as caught,
    ):
        async with open_store(sqlite_url(tmp_path)):
            pass

    assert "permissions" in caught.value.hint


async def test_a_full_disk_says_so_and_keeps_what_was_saved(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)) as store:
        chat = await store.create_chat(title="Before")
        await store.add_messages(
            [said(chat.id, "a", status="writing"), said(chat.id, "b", status="writing")],
            head_id="a",
        )
        await store.write_text("a", content="safe", reasoning="")

    caught: list[StorageError] = []

    async def write(message_id: str) -> None:
        try:
            await store.write_text(message_id, content="x" * 5_000_000, reasoning="")
        except StorageError as error:
            caught.append(error)

    with every_connection("PRAGMA max_page_count = 1"):  # as small as what it has already
        async with open_store(sqlite_url(tmp_path)) as store:
            async with anyio.create_task_group() as group:
                group.start_soon(write, "a")
                group.start_soon(write, "b")
            kept = await store.message(chat.id, "a")

    assert ["disk is full" in error.message and bool(error.hint) for error in caught] == [True] * 2
    assert kept.content == "safe"
    async with open_store(sqlite_url(tmp_path)) as store:
        await write("a")
        assert len((await store.message(chat.id, "a")).content) == 5_000_000


async def test_a_file_that_is_no_database_says_so_and_is_left_alone(tmp_path: Path) -> None:
    database(tmp_path).write_bytes(b"my holiday diary " * 500)

    with pytest.raises(StorageError, match="damaged") as caught:
        async with open_store(sqlite_url(tmp_path)):
            pass

    assert "backup" in caught.value.hint
    assert database(tmp_path).read_bytes() == b"my holiday diary " * 500


async def test_a_damaged_database_says_so(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)) as store:
        chat_id = await chat_with(store, *["text " * 500] * 30)
    size = database(tmp_path).stat().st_size
    with database(tmp_path).open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))

    with pytest.raises(StorageError, match="damaged"):
        async with open_store(sqlite_url(tmp_path)) as store:
            await store.conversation(chat_id)


async def test_a_damaged_search_index_says_so_and_chats_stay_readable(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)) as store:
        chat_id = await chat_with(store, "Hello")
    with closing(sqlite3.connect(database(tmp_path))) as raw, raw:
        raw.execute("DELETE FROM search_content")

    async with open_store(sqlite_url(tmp_path)) as store:
        with pytest.raises(StorageError, match="damaged"):
            await store.list_chats(query="hello")
        assert len((await store.conversation(chat_id)).messages) == 1


async def test_purged_words_are_gone_from_the_file(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)) as store:
        chat_id = await chat_with(store, "a confession", title="Secret")
        await store.delete_chat(chat_id)
        assert await store.purge_deleted(before=9e9) == 1

    with closing(sqlite3.connect(database(tmp_path))) as raw:
        for table in ("chats", "messages", "search"):
            assert raw.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


async def test_a_database_of_a_newer_program_says_so_and_is_left_alone(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)):
        pass
    with closing(sqlite3.connect(database(tmp_path))) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(StorageError, match="newer LM Desk") as caught:
        async with open_store(sqlite_url(tmp_path)):
            pass

    assert "Update" in caught.value.hint
    with closing(sqlite3.connect(database(tmp_path))) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


async def test_a_database_in_use_by_another_program_says_so(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)) as store:
        with closing(sqlite3.connect(database(tmp_path), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with (
                every_connection("PRAGMA busy_timeout = 50"),
                pytest.raises(StorageError, match="another program"),
            ):
                async with open_store(sqlite_url(tmp_path)) as impatient:
                    await impatient.create_chat()
            other.execute("ROLLBACK")
        await store.create_chat()


async def test_two_stores_share_one_new_file(tmp_path: Path) -> None:
    ids: list[str] = []

    async def use() -> None:
        async with open_store(sqlite_url(tmp_path)) as store:
            for _ in range(10):
                ids.append((await store.create_chat()).id)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(use)

    async with open_store(sqlite_url(tmp_path)) as store:
        listed = {chat.id for chat in (await store.list_chats()).chats}
    assert listed == set(ids)
    assert len(ids) == 40


async def test_the_tables_are_what_the_code_says(tmp_path: Path) -> None:
    async with open_store(sqlite_url(tmp_path)):
        pass

    with closing(sqlite3.connect(database(tmp_path))) as raw:
        for table in metadata.sorted_tables:
            described = raw.execute(f"PRAGMA table_info({table.name})").fetchall()
            made = {name: (not required) for _, name, _, required, _, _ in described}
            said_in_code = {column.name: bool(column.nullable) for column in table.columns}
            assert made == said_in_code
        version = raw.execute("SELECT version_num FROM alembic_version").fetchone()

    assert version == (SCHEMA_VERSION,)
    assert list((MIGRATIONS / "versions").glob(f"v{SCHEMA_VERSION}_*.py"))


async def test_opening_leaves_logging_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), root.disabled)

    async with open_store(sqlite_url(tmp_path)):
        pass

    assert (root.level, list(root.handlers), root.disabled) == before
    shown = [type(handler) for handler in logging.getLogger("alembic").handlers]
    assert set(shown) <= {logging.NullHandler}


def write_until_killed(data_dir: Path) -> int:
    """The last text another process said it had written before it was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data_dir)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        text=True,
    ) as writer:
        assert writer.stdout is not None
        promised = -1
        try:
            while promised < 40:
                promised = int(writer.stdout.readline())
        finally:
            writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    return promised


@contextmanager
def every_connection(pragma: str) -> Generator[None]:
    """Every database connection opened inside gets this setting after ours."""

    def put(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(pragma)
        cursor.close()

    def on_first_use(connection: DBAPIConnection, entry: ConnectionPoolEntry, _: object) -> None:
        put(connection, entry)

    event.listen(Pool, "checkout", on_first_use)
    try:
        yield
    finally:
        event.remove(Pool, "checkout", on_first_use)
