"""The house rules that a machine can check: rooms, sizes, names and locks."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
SOURCE = HOUSE / "src"
ROOMS = {"app", "api", "core", "infrastructure"}
MODULES = sorted(SOURCE.rglob("*.py"))
LOCKS = sorted(HOUSE.glob("requirements*.lock"))
MAX_LINES = 400


def test_the_rooms_are_the_four_we_know() -> None:
    assert {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()} == ROOMS


def test_no_module_is_longer_than_a_person_can_keep_in_mind() -> None:
    lengths = {str(path.relative_to(HOUSE)): len(_text(path).splitlines()) for path in MODULES}

    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(HOUSE))
        for path in MODULES
        if _text(path).strip() and not ast.get_docstring(ast.parse(_text(path)))
    ]

    assert silent == []


def test_no_dependency_ships_a_package_with_one_of_our_names() -> None:
    clashes = {
        name: shippers
        for name, shippers in packages_distributions().items()
        if name in ROOMS and set(shippers) != {"lmdesk"}
    }

    assert clashes == {}


def test_there_are_locks() -> None:
    assert [path.name for path in LOCKS] == ["requirements-dev.lock", "requirements.lock"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_host_and_every_package_has_a_hash(lock: Path) -> None:
    text = _text(lock)
    # One package spans lines that end in a backslash.
    entries = [
        line for line in text.replace("\\\n", " ").splitlines() if re.match(r"[A-Za-z0-9]", line)
    ]

    assert "://" not in text
    assert "index-url" not in text.replace("--no-emit-index-url", "")
    assert len(entries) > 50
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_imports_keep_to_the_rooms(tmp_path: Path) -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("import-linter is not installed")

    ran = subprocess.run(
        [command, "--no-logo", "--no-cache"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(SOURCE), "PATH": "", "NO_COLOR": "1"},
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "0 broken" in ran.stdout


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
