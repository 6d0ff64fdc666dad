"""lmdesk.yaml: read with its lines, and changed without losing a comment."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from api.settings import BadSetting, Keys, Settings
from api.settings_values import Source, in_file
from api.settings_words import unknown_key


def read_config(path: Path) -> Source:
    """What the file says. Raises BadSetting with the line, for a file that cannot be used."""
    return parsed(_text(path), path)


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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} cannot be read: {error}.") from error


def _tree(text: str, path: Path) -> CommentedMap:
    try:
        tree = YAML(typ="rt").load(text)
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
