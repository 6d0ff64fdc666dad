"""lmdesk.yaml: read with its lines, and written whole or not at all."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from api.settings import BadSetting, Keys, Settings
from api.settings_values import Source, in_file
from api.settings_words import is_secret, unknown_key
from core.errors import Conflict, StorageError


class FileChanged(Conflict):
    """The file is not the one that was read any more."""

    code = "settings_file_changed"


class CannotWrite(StorageError):
    """The file cannot be written."""

    code = "settings_file_not_written"


def read_config(path: Path) -> Source:
    """What the file says. Raises BadSetting with the line, for a file that cannot be used."""
    return parsed(read_text(path), path)


def parsed(text: str, path: Path) -> Source:
    """The same for a text that is, or is to be, in this file."""
    tree = _tree(text, path)

    def line(keys: Keys) -> int | None:
        return line_of(tree, keys)

    values = {str(key): value for key, value in _plain(tree).items()}
    if isinstance(bare := tree.get("providers"), CommentedMap):
        # `ollama:` with nothing under it is a provider all the same.
        named: dict[str, Any] = {str(name): {} for name, entry in bare.items() if entry is None}
        values["providers"] = {**named, **values["providers"]}
    source = Source("file", values, in_file(path), line)
    for key in tree:
        if key not in Settings.model_fields:
            raise unknown_key((str(key),), source)
    return source


def line_of(tree: CommentedMap, keys: Keys) -> int | None:
    """The line, from 1, of this key, or of the innermost it would stand under."""
    node: Any = tree
    line: int | None = None
    for key in keys:
        inside = key in node if isinstance(node, CommentedMap) else _holds(node, key)
        place = node.lc.data.get(key) if inside else None
        if place is None:  # also where it came in by a merge key
            break
        line = place[0] + 1
        node = node[key]
    return line


def _holds(node: Any, key: str | int) -> bool:
    return isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node)


def read_text(path: Path) -> str:
    """Its text as it is, line ends included. Raises BadSetting."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} cannot be read: {error}.") from error


def _tree(text: str, path: Path) -> CommentedMap:
    try:
        tree = YAML(typ="rt").load(text.removeprefix("\ufeff"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}," if mark else ""
        why = f": {error.problem}" if error.problem else ""
        raise BadSetting(f"{path}{where} is not valid YAML{why}.") from error
    except YAMLError as error:
        raise BadSetting(f"{path} is not valid YAML: {error}.") from error
    if tree is None:
        return CommentedMap()
    if not isinstance(tree, CommentedMap):
        raise BadSetting(f"{path} must hold lines of `key: value`.")
    return tree


def _plain(node: Any) -> Any:
    """Without the comments; what has no value is not set."""
    if isinstance(node, CommentedMap):
        pairs = ((str(key), _plain(value)) for key, value in node.items())
        return {key: value for key, value in pairs if value is not None}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    return node


class ConfigFile:
    """The file as it was last read, and the way to replace it. All methods may block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text: str | None = None
        """What was read or written last; None if there never was a file."""
        self._mark: tuple[int, ...] | None = None

    @property
    def revision(self) -> str:
        """A short word for this very content."""
        return hashlib.sha256((self.text or "").encode()).hexdigest()[:16]

    def moved(self) -> bool:
        """Whether the file is another one than when it was last looked at."""
        return self._now() != self._mark

    def read(self) -> str | None:
        """Its text, None if it is not there. Raises BadSetting."""
        self._mark = self._now()
        if self._mark is None:
            return None  # what it said is still known
        self.text = read_text(self.path)
        return self.text

    def write(self, text: str) -> None:
        """Put this in its place, at once, readable by its owner alone if a secret is in it.

        Raises FileChanged if somebody else wrote it since it was read, or CannotWrite.
        """
        path = self.path.resolve()  # a link stays one
        try:
            self._refuse_if_changed(path)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(text.encode())
                    file.flush()
                    os.fsync(file.fileno())
                _keep_owner_and_mode(path, Path(fresh), private=_holds_a_secret(text, path))
                self._refuse_if_changed(path)
                Path(fresh).replace(path)
            finally:
                Path(fresh).unlink(missing_ok=True)
            _sync_folder(path.parent)
        except OSError as error:
            raise CannotWrite(
                f"{self.path} cannot be written: {error.strerror or error}.",
                hint="Make it and its folder writable for the user LM Desk runs as.",
            ) from error
        self.text = text
        self._mark = self._now()

    def _refuse_if_changed(self, path: Path) -> None:
        there = path.read_bytes().decode(errors="replace") if path.is_file() else None
        # One that is gone is written again.
        if there is not None and there != self.text:
            raise FileChanged(
                f"{self.path} was changed on disk since LM Desk read it.",
                hint="Nothing was written. Look at the settings again, then repeat the change.",
            )

    def _now(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def _holds_a_secret(text: str, path: Path) -> bool:
    return any(_secrets_in(parsed(text, path).values, ()))


def _secrets_in(values: Mapping[str, Any], keys: Keys) -> list[bool]:
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _secrets_in(value, (*keys, key))
        else:
            found.append(bool(value) and is_secret((*keys, key)))
    return found


def _keep_owner_and_mode(old: Path, new: Path, *, private: bool) -> None:
    if not old.exists():
        return
    was = old.stat()
    if not private:
        new.chmod(stat.S_IMODE(was.st_mode))
    if hasattr(os, "chown"):
        with suppress(PermissionError):  # only root can give files away
            os.chown(new, was.st_uid, was.st_gid)


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a power cut too."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
