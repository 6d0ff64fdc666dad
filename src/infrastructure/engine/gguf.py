"""Reads what a model list needs from a GGUF file: the header only, without touching the weights.

Counts and lengths come from a stranger's file, so each is checked before anything is allocated or
read for it.
"""

import math
import mmap
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infrastructure.engine.quantizations import CACHE_TYPES, FILE_TYPES, TENSOR_TYPES

MAX_ENTRIES: Final = 4096
MAX_TENSORS: Final = 200_000
MAX_ITEMS: Final = 4_000_000
MAX_TEXT: Final = 4 << 20
KEPT_ITEMS: Final = 512

_SCALARS: Final = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_ARRAY_HEAD: Final = struct.Struct("<IQ")
_STRING: Final = 8
_ARRAY: Final = 9

Entry = str | int | float | list[int] | list[float]


class GgufError(ValueError):
    """The file is not a sane GGUF file; the text says why."""


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself. Long arrays are kept as their length."""

    size_bytes: int
    entries: dict[str, Entry] = field(default_factory=dict)
    parameter_count: int = 0
    tensor_bytes: int = 0
    data_offset: int = 0

    @property
    def truncated(self) -> bool:
        """Whether the file ends before its weights do."""
        return self.size_bytes < self.data_offset + self.tensor_bytes

    @property
    def architecture(self) -> str:
        return self.text("general.architecture") or "unknown"

    @property
    def name(self) -> str | None:
        return self.text("general.name")

    @property
    def quantization(self) -> str | None:
        kind = self.entries.get("general.file_type")
        return FILE_TYPES.get(kind) if isinstance(kind, int) else None

    @property
    def bits_per_weight(self) -> float | None:
        if not self.parameter_count:
            return None
        return round(self.tensor_bytes * 8 / self.parameter_count, 2)

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        words = self.entries.get("tokenizer.ggml.tokens", 0)
        return words if isinstance(words, int) else 0

    @property
    def context_length(self) -> int:
        """The most tokens the model was made for; 0 when the file does not say."""
        return self.number("context_length")

    @property
    def chat_template(self) -> str:
        return self.text("tokenizer.chat_template") or ""

    @property
    def is_embedding(self) -> bool:
        return bool(self.number("pooling_type")) or "bert" in self.architecture

    @property
    def is_projector(self) -> bool:
        """Whether it only translates images for another model."""
        return self.architecture == "clip" or self.text("general.type") == "mmproj"

    @property
    def uses_tools(self) -> bool:
        return "tools" in self.chat_template

    @property
    def thinks(self) -> bool:
        return "<think>" in self.chat_template or "enable_thinking" in self.chat_template

    @property
    def parameters(self) -> str | None:
        """Size of the network as people write it, such as `7B`."""
        for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
            if self.parameter_count >= unit:
                digits = self.parameter_count / unit
                return f"{digits:.1f}{letter}" if letter == "B" else f"{digits:.0f}{letter}"
        return None

    def text(self, key: str) -> str | None:
        value = self.entries.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str, default: int = 0) -> int:
        """An entry under the architecture's own prefix; of a list, the largest."""
        value = self.entries.get(f"{self.architecture}.{key}", default)
        if isinstance(value, list):
            value = max(value, default=default)
        if isinstance(value, str) or not math.isfinite(value):
            return default
        return max(0, int(value))

    def cache_bytes(self, context_length: int, keys: str = "f16", values: str = "f16") -> int:
        """What keys and values of so many tokens take; an upper bound for sparse attention.

        `keys`, `values`: their number formats.
        """
        heads = max(1, self.number("attention.head_count", 1))
        kv_heads = self.number("attention.head_count_kv", heads)
        per_head = self.number("embedding_length") // heads
        rows = self.number("block_count") * context_length * kv_heads
        key_width = self.number("attention.key_length", per_head)
        value_width = self.number("attention.value_length", per_head)
        return _row_bytes(keys, rows * key_width) + _row_bytes(values, rows * value_width)


def _row_bytes(number_format: str, numbers: int) -> int:
    block, width = TENSOR_TYPES[CACHE_TYPES[number_format]]
    return numbers * width // block


def read_header(path: Path) -> Header:
    """A few milliseconds. Raises GgufError for a damaged file, OSError for an unreadable one."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 24:
            raise GgufError("the file is too short")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Parser(data, size).header()
            except (struct.error, IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
                raise GgufError(f"the header is damaged ({error})") from None


class _Parser:
    """One walk from the first byte to the end of the header."""

    def __init__(self, data: mmap.mmap, size: int) -> None:
        self._data = data
        self._size = size
        self._at = 0

    def header(self) -> Header:
        if self._data[:4] != b"GGUF":
            raise GgufError("it is not a GGUF file")
        self._at = 4
        version = self._take(_U32)
        if version not in (2, 3):
            raise GgufError(f"GGUF version {version} is not known")
        tensors = self._count(MAX_TENSORS, "tensors")
        count = self._count(MAX_ENTRIES, "entries")
        entries = {self._text(): self._value(self._take(_U32)) for _ in range(count)}
        parameters, end = self._tensors(tensors)
        alignment = entries.get("general.alignment", 32)
        step = alignment if isinstance(alignment, int) and alignment > 0 else 32
        return Header(
            size_bytes=self._size,
            entries=entries,
            parameter_count=parameters,
            tensor_bytes=end,
            data_offset=(self._at + step - 1) // step * step,
        )

    def _tensors(self, count: int) -> tuple[int, int]:
        """How many weights there are, and where the last one ends."""
        parameters = end = 0
        for _ in range(count):
            self._text()
            dimensions = self._take(_U32)
            if dimensions > 8:
                raise GgufError("a tensor has too many dimensions")
            weights = 1
            for _ in range(dimensions):
                weights *= self._take(_U64)
            kind, offset = self._take(_U32), self._take(_U64)
            parameters += weights
            if kind in TENSOR_TYPES:
                block, width = TENSOR_TYPES[kind]
                end = max(end, offset + weights // block * width)
        return parameters, end

    def _value(self, kind: int) -> Entry:
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            scalar = _SCALARS[kind]
            (value,) = scalar.unpack_from(self._data, self._at)
            self._at += scalar.size
            return value  # type: ignore[no-any-return]
        return self._array()

    def _array(self) -> Entry:
        kind, count = _ARRAY_HEAD.unpack_from(self._data, self._at)
        self._at += _ARRAY_HEAD.size
        if count > MAX_ITEMS or count > self._size:
            raise GgufError("an array is longer than the file")
        if kind == _STRING:
            at, unpack, data = self._at, _U64.unpack_from, self._data
            for _ in range(count):  # the one loop that costs: a vocabulary has 100 000 words
                at += 8 + unpack(data, at)[0]
            self._move_to(at)
            return int(count)
        item = _SCALARS[kind]
        start = self._at
        self._move_to(start + count * item.size)
        if count > KEPT_ITEMS:
            return int(count)
        return [item.unpack_from(self._data, start + i * item.size)[0] for i in range(count)]

    def _text(self) -> str:
        length = self._take(_U64)
        if length > MAX_TEXT:
            raise GgufError("a text is too long")
        start = self._at
        self._move_to(start + length)
        return self._data[start : self._at].decode("utf-8", "replace")

    def _count(self, most: int, what: str) -> int:
        count = self._take(_U64)
        if count > most:
            raise GgufError(f"it claims {count} {what}")
        return count

    def _take(self, number: struct.Struct) -> int:
        (value,) = number.unpack_from(self._data, self._at)
        self._at += number.size
        return int(value)

    def _move_to(self, at: int) -> None:
        if at > self._size:
            raise GgufError("the file ends inside its header")
        self._at = at
