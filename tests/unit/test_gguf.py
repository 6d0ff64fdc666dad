"""Headers of GGUF files: what is read from good ones, and that bad ones do no harm."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infrastructure.engine.gguf import GgufError, read_header
from tests import tinygguf


def test_a_header_tells_what_a_model_list_needs(tmp_path: Path) -> None:
    header = read_header(tinygguf.parrot(tmp_path / "a.gguf", context=2048))
    assert header.architecture == "llama"
    assert header.name == "parrot"
    assert header.quantization == "F32"
    assert header.bits_per_weight == 32
    assert header.context_length == 2048
    assert header.parameters == "513K"
    assert not header.truncated
    assert not header.is_embedding
    assert not header.uses_tools
    # K and V, two bytes a value, as wide as the network.
    width = header.number("embedding_length")
    assert header.cache_bytes(100) == 2 * 2 * 100 * width


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    assert read_header(tinygguf.embedder(tmp_path / "a.gguf")).is_embedding
    assert read_header(tinygguf.tool_caller(tmp_path / "b.gguf")).uses_tools
    assert read_header(tinygguf.thinker(tmp_path / "c.gguf")).thinks


def test_a_file_that_broke_off_is_known_without_loading_it(tmp_path: Path) -> None:
    assert read_header(tinygguf.truncated(tmp_path / "a.gguf")).truncated


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"PK\x03\x04" + bytes(100),
        b"GGUF" + struct.pack("<IQQ", 99, 0, 0) + bytes(10),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63) + bytes(10),
        b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0) + bytes(10),
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62) + bytes(10),
    ],
)
def test_what_is_no_gguf_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(GgufError):
        read_header(path)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(4, 6000), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_header_is_read_or_refused_but_never_does_harm(
    tmp_path: Path, damage: list[tuple[int, int]]
) -> None:
    path = tmp_path / "a.gguf"
    if not path.exists():
        tinygguf.parrot(path)
    data = bytearray(path.read_bytes())
    for at, value in damage:
        data[at] = value
    hurt = tmp_path / "b.gguf"
    hurt.write_bytes(data)
    try:
        header = read_header(hurt)
    except GgufError:
        return
    assert header.size_bytes == len(data)
    assert header.cache_bytes(4096) >= 0
    assert isinstance(header.parameters, str | None)
