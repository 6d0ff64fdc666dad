"""Changing values in the text of a YAML file and nothing else: not a comment, not a space.

Writing the whole tree again would move comments that stand between two keys, and lose those at the
end of a removed one. So the parser only says where things are, and the text is cut there.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from core.errors import Conflict

REMOVED: Final = object()
"""Instead of a value: the key goes away."""
Change = tuple[tuple[str, ...], Any]
"""Keys from the outside in, and the new value, or REMOVED."""

STEP = 2
PLAIN = re.compile(r"[A-Za-z0-9_/]([\w./:@%+-]*[\w/@%+-])?", re.ASCII)
NOT_TEXT = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


class CannotEdit(Conflict):
    """The file uses YAML in a way that has to be changed by hand."""

    code = "settings_file_unusable"


def edited(text: str, changes: Sequence[Change]) -> str:
    """The text with the values changed. Raises CannotEdit; what it returns says what was asked."""
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    new = text.removeprefix(mark)
    try:
        wanted = _values(new)
    except YAMLError as error:  # nothing that LM Desk would have read
        raise _by_hand(changes[0][0]) from error
    for keys, value in changes:
        try:
            new = _removed(new, keys) if value is REMOVED else _set(new, keys, value)
        except YAMLError as error:
            raise _by_hand(keys) from error
        _apply(wanted, keys, value)
    try:
        found = _values(new)
    except YAMLError as error:
        raise _by_hand(changes[0][0]) from error
    if _pruned(found) != _pruned(wanted):
        raise _by_hand(changes[0][0])
    return mark + new


def _by_hand(keys: Sequence[str]) -> CannotEdit:
    return CannotEdit(
        f"The file is written in a way in which '{'.'.join(keys)}' has to be changed by hand.",
        hint="Change it there, with an editor; LM Desk reads it again by itself.",
    )


# -- setting -------------------------------------------------------------------------------------


def _set(text: str, keys: tuple[str, ...], value: Any) -> str:
    node = _composed(text)
    if node is None:
        return _appended(text, keys[0], _nested(keys[1:], value))
    for depth, key in enumerate(keys):
        rest = keys[depth + 1 :]
        if not isinstance(node, MappingNode):
            raise _by_hand(keys)
        pair = _pair(node, key)
        if pair is None and depth == 0 and not node.flow_style:
            return _appended(text, key, _nested(rest, value))
        if pair is None:
            return _inserted(text, node, key, _nested(rest, value))
        name, child = pair
        if child.start_mark.index < name.start_mark.index:  # an alias of something above
            raise _by_hand(keys)
        if not rest:
            return _replaced(text, name, child, value)
        if not isinstance(child, MappingNode):
            if node.flow_style or not _is_null(child):
                return _inline(text, name, child, _nested(rest, value))
            return _filled(text, name, child, _nested(rest, value))
        node = child
    return text


def _appended(text: str, key: str, value: Any) -> str:
    """As a last line of the file."""
    end = _newline(text)
    if text and not text.endswith("\n"):
        text += end
    gap = end if isinstance(value, Mapping) and text.rstrip(" \t") != "" else ""
    return text + gap + "".join(line + end for line in _block(key, value, 0, STEP))


def _inserted(text: str, node: MappingNode, key: str, value: Any) -> str:
    """As the last entry of this mapping."""
    if node.flow_style:
        at = node.end_mark.index - 1
        before = text[:at].rstrip()
        comma = ", " if node.value and not before.endswith(",") else " " * bool(node.value)
        return f"{before}{comma}{_scalar(key)}: {_flow(value)}{text[at:]}"
    column = node.value[0][0].start_mark.column
    at = _line_end(text, _end(*node.value[-1]))
    return _with_lines(text, at, _block(key, value, column, _step(text)))


def _filled(text: str, name: Node, child: Node, value: Any) -> str:
    """Under a key that has nothing."""
    text = _without_null(text, name, child)
    column = name.start_mark.column
    step = _step(text)
    lines = [line for key, each in value.items() for line in _block(key, each, column + step, step)]
    return _with_lines(text, _line_end(text, name.end_mark.index), lines)


def _replaced(text: str, name: Node, child: Node, value: Any) -> str:
    items = value if isinstance(value, list | tuple) else ()
    if isinstance(child, SequenceNode) and not child.flow_style and items:
        return _relisted(text, child, items)
    return _inline(text, name, child, value)


def _inline(text: str, name: Node, child: Node, value: Any) -> str:
    """In the place of the old value, on its line."""
    shown = _flow(value)
    if _is_null(child):
        text = _without_null(text, name, child)
        at = _colon(text, name)
        return f"{text[:at]} {shown}{re.sub(r'^ +(?=,)', '', text[at:])}"
    if _is_inline(child):
        old = text[child.start_mark.index : child.end_mark.index]
        ends = old[len(old.rstrip()) :]
        return text[: child.start_mark.index] + shown + ends + text[child.end_mark.index :]
    return f"{text[: _colon(text, name)]} {shown}{text[_end(name, child) :]}"


def _relisted(text: str, child: SequenceNode, value: Sequence[Any]) -> str:
    """A list with one item a line; those that stay keep their lines and the comments above them."""
    first = child.start_mark
    start = _line_start(text, first.index)
    chunks: dict[Any, list[str]] = {}
    begin, stop = start, start
    for item in child.value:
        stop = _line_end(text, item.end_mark.index)
        chunks.setdefault(_item(item), []).append(text[begin:stop])
        begin = stop
    lines = []
    for each in value:
        kept = chunks.get(str(each))
        fresh = f"{' ' * first.column}- {_flow(each)}{_newline(text)}"
        line = kept.pop(0) if kept else fresh
        lines.append(line if line.endswith("\n") else line + _newline(text))
    return text[:start] + "".join(lines) + text[stop:]


# -- removing ------------------------------------------------------------------------------------


def _removed(text: str, keys: tuple[str, ...]) -> str:
    node = _composed(text)
    for key in keys[:-1]:
        pair = _pair(node, key) if isinstance(node, MappingNode) else None
        if pair is None:
            return text
        node = pair[1]
    found = _pair(node, keys[-1]) if isinstance(node, MappingNode) else None
    if found is None or not isinstance(node, MappingNode):
        return text
    if node.flow_style:
        return _without_entry(text, node, node.value.index(found))
    name, child = found
    start = _line_start(text, name.start_mark.index)
    if text[start : name.start_mark.index].strip():
        raise _by_hand(keys)
    return text[:start] + text[_line_end(text, _end(name, child)) :]


def _without_entry(text: str, node: MappingNode, place: int) -> str:
    """Out of {a: 1, b: 2}."""
    name, child = node.value[place]
    if place + 1 < len(node.value):
        return text[: name.start_mark.index] + text[node.value[place + 1][0].start_mark.index :]
    start = _end(*node.value[place - 1]) if place else name.start_mark.index
    return text[:start] + text[_end(name, child) :]


# -- where things are ----------------------------------------------------------------------------


def _composed(text: str) -> Node | None:
    node: Node | None = YAML(typ="rt").compose(text)
    return node


def _pair(node: MappingNode, key: str) -> tuple[Node, Node] | None:
    found: tuple[Node, Node] | None = next((p for p in node.value if p[0].value == key), None)
    return found


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and str(node.tag) == "tag:yaml.org,2002:null"


def _is_inline(node: Node) -> bool:
    """A single value, or a list or mapping in brackets."""
    return not isinstance(node, MappingNode | SequenceNode) or bool(node.flow_style)


def _item(node: Node) -> str | None:
    return str(node.value) if isinstance(node, ScalarNode) else None


def _end(name: Node, child: Node) -> int:
    """Where an entry ends; the parser counts the comments below a block as part of it."""
    if _is_null(child):
        explicit = child.end_mark.index > child.start_mark.index
        return int(child.end_mark.index) if explicit else int(name.end_mark.index)
    if _is_inline(child):
        return int(child.end_mark.index)
    if isinstance(child, MappingNode):
        return _end(*child.value[-1])
    return _end(name, child.value[-1])


def _colon(text: str, name: Node) -> int:
    """Behind the colon of a key."""
    at = text.find(":", name.end_mark.index)
    if at < 0:
        raise _by_hand([str(name.value)])
    return at + 1


def _without_null(text: str, name: Node, child: Node) -> str:
    """Without a written `null` or `~`."""
    start, stop = child.start_mark.index, child.end_mark.index
    return text if start == stop else text[:start].rstrip(" ") + text[stop:]


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _line_end(text: str, at: int) -> int:
    """Behind the end of the line."""
    if at > 0 and text[at - 1] == "\n":  # a block of text ends there already
        return at
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _step(text: str) -> int:
    """By how much this file indents."""
    node = _composed(text)
    pairs = node.value if isinstance(node, MappingNode) else []
    inner = (c for _, c in pairs if isinstance(c, MappingNode) and not c.flow_style)
    columns = (int(child.value[0][0].start_mark.column) for child in inner)
    return next(columns, STEP)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _with_lines(text: str, at: int, lines: Sequence[str]) -> str:
    end = _newline(text)
    before = text[:at] if text[:at].endswith("\n") else text[:at] + end
    return before + "".join(line + end for line in lines) + text[at:]


# -- values as text ------------------------------------------------------------------------------


def _nested(keys: Sequence[str], value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _block(key: str, value: Any, column: int, step: int) -> list[str]:
    """The lines of an entry."""
    return list(_block_lines(key, value, column, step))


def _block_lines(key: str, value: Any, column: int, step: int) -> Iterator[str]:
    pad = " " * column
    if isinstance(value, Mapping) and value:
        yield f"{pad}{_scalar(key)}:"
        for name, each in value.items():
            yield from _block_lines(name, each, column + step, step)
    else:
        yield f"{pad}{_scalar(key)}: {_flow(value)}"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(each) for each in value) + "]"
    return _scalar(value)


def _reads_as_text(value: str) -> bool:
    """Whether YAML would not take it for a number or a date."""
    try:
        return bool(YAML(typ="safe", pure=True).load(value) == value)
    except YAMLError:
        return False


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if PLAIN.fullmatch(value) and value.lower() not in NOT_TEXT and _reads_as_text(value):
        return str(value)
    # JSON is YAML, but for signs that YAML wants written out.
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\u2028\u2029\ufeff]", lambda m: f"\\u{ord(m[0]):04x}", quoted)


# -- what the text says --------------------------------------------------------------------------


def _values(text: str) -> dict[str, Any]:
    values: dict[str, Any] = _as_plain(YAML(typ="safe", pure=True).load(text) or {})
    return values


def _as_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(each) for each in value]
    return value


def _apply(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = values.get(key)
        if not isinstance(inner, dict):
            if value is REMOVED:
                return
            inner = values[key] = {}
        values = inner
    if value is REMOVED:
        values.pop(keys[-1], None)
    else:
        values[keys[-1]] = _as_plain(value)


def _pruned(value: Any) -> Any:
    """Without keys that have nothing: removing the last entry leaves its heading."""
    if not isinstance(value, Mapping):
        return value
    inner = {key: _pruned(each) for key, each in value.items()}
    return {key: each for key, each in inner.items() if each not in (None, {})}
