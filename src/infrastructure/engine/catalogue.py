"""The models on this machine: finds GGUF files, names them as LM Studio does, knows their headers."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from infrastructure.engine import starter
from infrastructure.engine.config import EngineConfig
from infrastructure.engine.gguf import GgufError, Header, read_header

log = structlog.get_logger(__name__)

_PART: Final = re.compile(r"-(\d{5})-of-(\d{5})$")
_MAX_DEPTH: Final = 4
_LOCAL: Final = "local"
# LM Studio's own default; without it small models repeat themselves.
REPEAT_PENALTY: Final = 1.1


@dataclass(frozen=True)
class Model:
    """One model that could be loaded."""

    key: str
    path: Path
    header: Header
    name: str
    publisher: str
    size_bytes: int
    projector: Path | None = None
    damage: str | None = None
    """Why it will hardly load."""
    template: str | None = None
    """A chat template better than its own."""
    temperature: float | None = None
    """What suits it where a request does not say."""
    repeat_penalty: float = REPEAT_PENALTY

    @property
    def is_embedding(self) -> bool:
        return self.header.is_embedding

    @property
    def uses_tools(self) -> bool:
        return "tools" in (self.template or self.header.chat_template)


@dataclass(frozen=True)
class _Found:
    """A file and what its place says: publisher and model, or nothing."""

    path: Path
    publisher: str | None
    folder: str | None


class Catalogue:
    """Lists models. Headers are read once for each state of a file."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._headers: dict[Path, tuple[tuple[int, int], Header, str | None]] = {}

    def models(self) -> dict[str, Model]:
        """By key, sorted. Walks the folders, so call it in a thread."""
        found: dict[str, Model] = {}
        seen: set[Path] = set()
        for model in self._walk():
            real = model.path.resolve()
            if real in seen:
                continue
            seen.add(real)
            if model.key in found:
                log.warning("model_key_taken", key=model.key, file=model.path.name)
                continue
            found[model.key] = model
        self._headers = {path: kept for path, kept in self._headers.items() if path in seen}
        return dict(sorted(found.items()))

    def _walk(self) -> Iterator[Model]:
        if model := self._starter():
            yield model
        for root in self._config.models_dirs:
            yield from self._models_in(_files_below(root))
        if self._config.shared_folders:
            home = Path.home()
            for root in (home / ".lmstudio/models", home / ".cache/lm-studio/models"):
                yield from self._models_in(_files_below(root))
            yield from self._models_in(_hugging_face_files())

    def _starter(self) -> Model | None:
        if not self._config.starter:
            return None
        path = starter.starter_path(self._config.data_dir)
        if path is None:
            return None
        header, damage = self._header(path)
        return Model(
            key=starter.KEY,
            path=path,
            header=header,
            name=starter.NAME,
            publisher=starter.PUBLISHER,
            size_bytes=header.size_bytes,
            damage=damage,
            temperature=starter.TEMPERATURE,
            repeat_penalty=starter.REPEAT_PENALTY,
            template=Path(__file__).with_name("chatml_tools.jinja").read_text("utf-8"),
        )

    def _models_in(self, files: Iterator[_Found]) -> Iterator[Model]:
        """Models of one root. Files of one folder in LM Studio's layout are variants of a model."""
        groups: dict[tuple[str | None, str | None], list[tuple[_Found, Header, str | None]]]
        groups = defaultdict(list)
        projectors: dict[Path, Path] = {}
        for file in files:
            header, damage = self._header(file.path)
            if header.is_projector or file.path.name.lower().startswith("mmproj"):
                projectors[file.path.parent] = file.path
            else:
                groups[file.publisher, file.folder].append((file, header, damage))
        for (publisher, folder), members in groups.items():
            for file, header, damage in members:
                stem = _PART.sub("", file.path.stem)
                key = stem
                if publisher and folder:
                    key = f"{publisher}/{folder}"
                    if len(members) > 1:
                        key += f"@{_variant(header, members, stem)}"
                yield Model(
                    key=key,
                    path=file.path,
                    header=header,
                    name=header.name or folder or stem,
                    publisher=publisher or _LOCAL,
                    size_bytes=_size_of_parts(file.path, header.size_bytes),
                    projector=projectors.get(file.path.parent),
                    damage=damage,
                )

    def _header(self, path: Path) -> tuple[Header, str | None]:
        """The header, as far as it can be read, and what is wrong with the file."""
        real = path.resolve()
        try:
            status = real.stat()
            mark = (status.st_mtime_ns, status.st_size)
            if (kept := self._headers.get(real)) and kept[0] == mark:
                return kept[1], kept[2]
            header, damage = read_header(real), None
            if header.truncated and not _PART.search(path.stem):
                damage = "the file is incomplete"
        except (GgufError, OSError) as error:
            damage = str(error)
            log.warning("model_file_damaged", file=path.name, reason=damage)
            size = real.stat().st_size if real.exists() else 0
            header, mark = Header(size_bytes=size), (0, -1)
            if isinstance(error, GgufError):
                mark = (real.stat().st_mtime_ns, size)
        self._headers[real] = (mark, header, damage)
        return header, damage


def _files_below(root: Path) -> Iterator[_Found]:
    """GGUF files, first parts only; `publisher/model/file.gguf` is LM Studio's layout."""
    if not root.is_dir():
        return
    for folder, folders, names in os.walk(root, followlinks=True):
        place = Path(folder).relative_to(root).parts
        folders[:] = [] if len(place) >= _MAX_DEPTH else sorted(f for f in folders if f[0] != ".")
        for name in sorted(names):
            if not name.lower().endswith(".gguf"):
                continue
            path = Path(folder) / name
            if _is_further_part(path) or not path.is_file():
                continue
            if len(place) >= 2:
                yield _Found(path, place[-2], _plain(place[-1]))
            else:
                yield _Found(path, None, None)


def _hugging_face_files() -> Iterator[_Found]:
    """`models--publisher--model/snapshots/revision/…/file.gguf`, the newest revision only."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    for repository in sorted(hub.glob("models--*--*")):
        _, publisher, model = repository.name.split("--", 2)
        revisions = [path for path in repository.glob("snapshots/*") if path.is_dir()]
        if not revisions:
            continue
        newest = max(revisions, key=lambda path: path.stat().st_mtime)
        for path in sorted(newest.rglob("*.gguf")):
            if path.is_file() and not _is_further_part(path):
                yield _Found(path, publisher, _plain(model))


def _plain(folder: str) -> str:
    """Without the ending that only says what everything here is."""
    return re.sub(r"[-_.]gguf$", "", folder, flags=re.IGNORECASE)


def _is_further_part(path: Path) -> bool:
    part = _PART.search(path.stem)
    return part is not None and int(part[1]) > 1


def _variant(header: Header, members: list[tuple[_Found, Header, str | None]], stem: str) -> str:
    """The quantization where it tells the files apart, else the file's name."""
    mine = header.quantization
    if mine and sum(other.quantization == mine for _, other, _ in members) == 1:
        return mine.lower()
    return stem


def _size_of_parts(path: Path, first: int) -> int:
    part = _PART.search(path.stem)
    if not part:
        return first
    pattern = f"{path.stem[: part.start()]}-*-of-{part[2]}{path.suffix}"
    return sum(p.stat().st_size for p in path.parent.glob(pattern))
