"""Which models are found where, and what they are called."""

import shutil
from pathlib import Path

import pytest

from infrastructure.engine.catalogue import Catalogue
from infrastructure.engine.config import EngineConfig
from tests import tinygguf


def _keys(*folders: Path, shared: bool = False) -> list[str]:
    config = EngineConfig(models_dirs=folders, shared_folders=shared, starter=False)
    return list(Catalogue(config).models())


def test_a_models_place_gives_its_name(tmp_path: Path) -> None:
    tinygguf.parrot(tmp_path / "loose.gguf")
    tinygguf.parrot(tmp_path / "folder/inside.gguf")
    tinygguf.parrot(tmp_path / "acme/parrot-GGUF/parrot-f32.gguf")
    assert _keys(tmp_path) == ["acme/parrot", "inside", "loose"]


def test_files_of_one_folder_are_variants_of_a_model(tmp_path: Path) -> None:
    tinygguf.parrot(tmp_path / "acme/parrot/one.gguf")
    tinygguf.parrot(tmp_path / "acme/parrot/two.gguf")
    # Both are F32, so that the quantization does not tell them apart.
    assert _keys(tmp_path) == ["acme/parrot@one", "acme/parrot@two"]


def test_the_parts_of_a_split_model_are_one_model(tmp_path: Path) -> None:
    for part in (1, 2):
        tinygguf.parrot(tmp_path / f"huge-0000{part}-of-00002.gguf")
    (model,) = (
        Catalogue(EngineConfig(models_dirs=(tmp_path,), shared_folders=False, starter=False))
        .models()
        .values()
    )
    assert model.key == "huge"
    assert model.path.name == "huge-00001-of-00002.gguf"
    assert model.size_bytes == 2 * model.header.size_bytes


def test_lm_studios_folders_and_the_hugging_face_cache_are_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    tinygguf.parrot(tmp_path / ".lmstudio/models/a/one/x.gguf")
    tinygguf.parrot(tmp_path / ".cache/lm-studio/models/b/two/x.gguf")
    hub = tmp_path / ".cache/huggingface/hub/models--c--three-GGUF"
    blob = tinygguf.parrot(hub / "blobs/0123")
    (hub / "snapshots/abc").mkdir(parents=True)
    (hub / "snapshots/abc/x.gguf").symlink_to(blob)
    assert _keys(shared=True) == ["a/one", "b/two", "c/three"]
    assert _keys(shared=False) == []


def test_the_same_file_in_two_places_is_one_model(tmp_path: Path) -> None:
    tinygguf.parrot(tmp_path / "one/parrot.gguf")
    (tmp_path / "two").mkdir()
    (tmp_path / "two/other.gguf").symlink_to(tmp_path / "one/parrot.gguf")
    assert _keys(tmp_path / "one", tmp_path / "two") == ["parrot"]


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    config = EngineConfig(models_dirs=(tmp_path,), shared_folders=False, starter=False)
    catalogue = Catalogue(config)
    path = tinygguf.truncated(tmp_path / "a.gguf")
    assert catalogue.models()["a"].damage == "the file is incomplete"
    tinygguf.thinker(path)
    assert catalogue.models()["a"].damage is None
    assert catalogue.models()["a"].header.thinks


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert _keys(tmp_path / "nowhere") == []


def test_the_starter_is_offered_when_it_is_there(tmp_path: Path) -> None:
    models, data = tmp_path / "models", tmp_path / "data"
    data.mkdir()
    shutil.copy(tinygguf.parrot(models / "x.gguf"), data / "SmolLM2-135M-Instruct-Q4_1.gguf")
    config = EngineConfig(models_dirs=(models,), shared_folders=False, data_dir=data)
    found = Catalogue(config).models()
    assert found["smollm2-135m-instruct"].name == "SmolLM2 135M Instruct"
    assert found["smollm2-135m-instruct"].uses_tools
