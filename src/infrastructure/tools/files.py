"""The `mcp.json` files of this machine, read, merged, and ours written."""

import asyncio
import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import BadParameter, StorageError
from core.runs_text import clean
from core.tool_entries import Configured, FileProblem, ServerEntry
from core.visible import visible
from infrastructure.tools.entries import env_file_of, read_entry
from infrastructure.tools.itself import HINT as ITS_HINT
from infrastructure.tools.itself import PROBLEM as ITSELF
from infrastructure.tools.itself import is_itself
from infrastructure.tools.jsonc import parse, repeated_keys
from infrastructure.tools.programs import with_program

# Claude Code keeps a history in its file.
MAX_BYTES = 64 * 1024 * 1024
_SECTIONS = ("mcpServers", "servers")
# Keys that say what a server is; others survive when an entry of ours is replaced.
_OWN_KEYS = frozenset(
    {"type", "transport", "command", "args", "env", "cwd", "url", "serverUrl", "headers"}
    | {"allow_private"}
)
# So often our file is taken up anew because another program wrote it in between.
_TRIES = 5
_Signature = tuple[tuple[str, int, int, int] | None, ...]


class _Found(NamedTuple):
    key: str
    """Where it stands, such as `mcpServers.fetch`."""
    name: str
    raw: Any


class _Unusable(Exception):
    def __init__(self, message: str, *, line: int | None = None, key: str = "") -> None:
        super().__init__(message)
        self.problem = (message, line, key)


class ConfigFiles:
    """Our own file and those of other programs; of two servers of a name the first counts."""

    def __init__(
        self,
        own: Path,
        others: Sequence[Path],
        environment: Mapping[str, str] | None = None,
        *,
        addresses: Collection[str] = (),
    ) -> None:
        """`addresses` are where this LM Desk itself answers."""
        self._addresses = tuple(addresses)
        self._own = own
        self._others = [path for path in others if path != own]
        self._environment = os.environ if environment is None else environment
        self._signature: _Signature | None = None
        self._configured = Configured()
        self._env_files: tuple[Path, ...] = ()
        # Of threads: a caller that is cancelled leaves its thread behind, still writing.
        self._turn = threading.Lock()

    async def read(self) -> Configured:
        """All of them, merged; read anew where one changed."""
        return await asyncio.to_thread(self._read)

    async def put(self, name: str, entry: Mapping[str, Any], *, new: bool = False) -> None:
        """Write this entry into our own file, with `new` only where it has none of that name.

        Raises BadParameter, StorageError.
        """
        await asyncio.to_thread(self._change, name, entry, new=new)

    async def remove(self, name: str) -> bool:
        """Take it out of our own file; whether it was there. Raises StorageError."""
        return await asyncio.to_thread(self._change, name, None)

    def _read(self) -> Configured:
        with self._turn:
            return self._read_now()

    def _read_now(self) -> Configured:
        files = (self._own, *self._others)
        watched = self._env_files
        # Before they are read: what changes meanwhile is read again the next time.
        signature = tuple(_sign(path) for path in (*files, *watched))
        if signature != self._signature:
            self._configured = self._merged(files)
            self._signature = signature if self._env_files == watched else None
        # What a name on the PATH is may change while no file of ours does.
        entries = [with_program(entry, self._environment) for entry in self._configured.entries]
        return self._configured._replace(entries=tuple(entries))

    def _merged(self, files: Sequence[Path]) -> Configured:
        entries: dict[str, ServerEntry] = {}
        problems: list[FileProblem] = []
        env_files: list[Path] = []
        read = [str(self._own)]
        whole = True
        for path in files:
            if not path.exists():
                continue
            if path != self._own:
                read.append(str(path))
            try:
                named = list(_servers(_load(path)))
            except _Unusable as error:
                whole = False
                message, line, key = error.problem
                problems.append(
                    FileProblem(
                        file=str(path),
                        line=line,
                        key=key,
                        message=message,
                        hint="Correct it; the servers of the other files are used meanwhile.",
                    )
                )
                continue
            found = list(_whole(path, named, problems))
            whole = whole and len(found) == len(named)
            beside = (env_file_of(each.raw, path, self._environment) for each in found)
            env_files += (each for each in beside if each is not None)
            self._take(path, found, entries, problems)
        self._env_files = tuple(env_files)
        return Configured(tuple(entries.values()), tuple(problems), tuple(read), whole)

    def _take(
        self,
        path: Path,
        found: Sequence[_Found],
        entries: dict[str, ServerEntry],
        problems: list[FileProblem],
    ) -> None:
        here: dict[str, str] = {}
        for key, raw_name, raw in found:
            name = clean_name(raw_name)
            if name in here:
                problems.append(
                    FileProblem(
                        file=str(path),
                        key=key,
                        message=f"It would be called {name}, as {here[name]} is already.",
                        hint="Give it another name.",
                    )
                )
                continue
            here[name] = raw_name
            if name in entries:
                first = entries[name]
                also = (*first.also_in, str(path))
                entries[name] = first.model_copy(update={"also_in": also})
                continue
            entry, error = read_entry(name, raw, path, self._environment)
            if raw_name != name:
                entry = entry.model_copy(update={"named": visible(raw_name)})
            if error is None and is_itself(entry, self._addresses):
                entry = entry.model_copy(update={"problem": ITSELF})
            entries[name] = entry
            if error is not None:
                where = f"{key}.{error.key}" if error.key else key
                problems.append(FileProblem(file=str(path), key=where, message=error.message))

    def _change(self, name: str, entry: Mapping[str, Any] | None, *, new: bool = False) -> bool:
        with self._turn:
            # Times are coarse: what we write is read anew, whatever they say.
            self._signature = None
            for _ in range(_TRIES):
                before = _sign(self._own)
                whole = self._own_file()
                if not self._changed(whole, name, entry, new=new):
                    return False
                if write_json(self._own, whole, if_still=lambda: _sign(self._own) == before):  # noqa: B023
                    return True
        raise StorageError(
            f"{self._own} is being written by another program.", hint="Try again in a moment."
        )

    def _own_file(self) -> dict[str, Any]:
        try:
            return _load(self._own, strictly=True) if self._own.exists() else {"mcpServers": {}}
        except _Unusable as error:
            raise self._unchangeable(error) from error

    def _unchangeable(self, error: _Unusable) -> StorageError:
        message, line, _ = error.problem
        where = f" (line {line})" if line else ""
        return StorageError(
            f"{self._own} cannot be changed: {message}{where}", hint="Correct it by hand first."
        )

    def _changed(
        self, whole: dict[str, Any], name: str, entry: Mapping[str, Any] | None, *, new: bool
    ) -> bool:
        """Put the entry into what the file says, or take it out; whether there was anything to do."""
        try:
            section = _section(whole)
        except _Unusable as error:
            raise self._unchangeable(error) from error
        if section is None:
            whole["mcpServers"] = section = {}
        # A person knows it by the name it has here; the file may spell it otherwise.
        same = (key for key in section if clean_name(key) == name and clean(key) == key)
        key = next(same, None)
        if entry is None:
            if key is not None:
                del section[key]
            return key is not None
        if new and key is not None:
            raise BadParameter(f"There is a tool server {name} already.", hint="Change that one.")
        old = section.get(key) if key is not None else None
        kept = old.items() if isinstance(old, dict) else ()
        merged = {**{k: v for k, v in kept if k not in _OWN_KEYS}, **entry}
        self._require(name, merged)
        section[name if key is None else key] = merged
        return True

    def _require(self, name: str, raw: dict[str, Any]) -> None:
        new, bad = read_entry(name, raw, self._own, self._environment)
        if bad is None and is_itself(new, self._addresses):
            raise BadParameter(
                f"The tool server {name} cannot be used: {ITSELF}",
                hint=ITS_HINT,
            )
        if bad is not None:
            where = f"{bad.key}: " if bad.key else ""
            raise BadParameter(f"The tool server {name} cannot be used: {where}{bad.message}")


def _whole(path: Path, servers: Iterable[_Found], problems: list[FileProblem]) -> Iterator[_Found]:
    """Those whose text can be shown and handed on; the others are problems."""
    for each in servers:
        if clean([each.name, each.raw]) == [each.name, each.raw]:
            yield each
            continue
        problems.append(
            FileProblem(
                file=str(path),
                key=clean(each.key),
                message="It holds half a character, which no program can read.",
                hint="Write that character whole; the other servers are used meanwhile.",
            )
        )


def clean_name(raw: str) -> str:
    """A name that fits into addresses and into the names of tools."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", raw).strip("-_")[:64] or "server"


def write_json(path: Path, value: Any, *, if_still: Callable[[], bool] = lambda: True) -> bool:
    """Whole or not at all, for nobody else's eyes; whether `if_still` let it. Raises StorageError.

    It is asked at the last moment.
    """
    # Halves of characters stand only as escapes in a file.
    text = json.dumps(value, indent=2, ensure_ascii=clean(value) != value) + "\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, written = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if not if_still():
                return False
            Path(written).replace(path)
        finally:
            Path(written).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}.", hint="Look at its folder and the disk."
        ) from error
    return True


def _sign(path: Path) -> tuple[str, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path), found.st_mtime_ns, found.st_size, found.st_ino


def _load(path: Path, *, strictly: bool = False) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _Unusable("It is too large to be a list of servers.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise _Unusable(f"It cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise _Unusable("It is not text in UTF-8.") from error
    if not text.strip():
        return {}
    try:
        value = json.loads(text) if strictly else parse(text)
    except json.JSONDecodeError as error:
        comments = " It has comments, which would be lost." if strictly and "/" in text else ""
        raise _Unusable(
            f"It is not valid JSON: {error.msg}, column {error.colno}.{comments}", line=error.lineno
        ) from error
    except RecursionError as error:
        raise _Unusable("It is nested too deeply.") from error
    if not isinstance(value, dict):
        raise _Unusable("It has to be an object with mcpServers.")
    return value


def _section(whole: dict[str, Any]) -> dict[str, Any] | None:
    nested = whole.get("mcp")
    for place in (whole, nested if isinstance(nested, dict) else {}):
        for key in _SECTIONS:
            if key in place:
                if not isinstance(place[key], dict):
                    raise _Unusable("It has to be an object of names and servers.", key=key)
                section: dict[str, Any] = place[key]
                return section
    # A bare list of servers: every value is one.
    bare = [
        isinstance(each, dict) and ("command" in each or "url" in each) for each in whole.values()
    ]
    return whole if bare and all(bare) else None


def _servers(whole: dict[str, Any]) -> Iterator[_Found]:
    section = _section(whole)
    if section is None:
        return
    prefix = next((f"{key}." for key in _SECTIONS if whole.get(key) is section), "")
    for name in repeated_keys(section):
        raise _Unusable(f"{name!r} stands in it twice.", key=clean(f"{prefix}{name}"))
    for name, raw in section.items():
        yield _Found(f"{prefix}{name}", name, raw)
