"""A file on its way: what has arrived of it, its checksum so far, and its place at the end."""

import asyncio
import errno
import hashlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from core.errors import DownloadDamaged, NotEnoughDisk, StorageError
from core.hub import HubFile

T = TypeVar("T")

_READ_BYTES: Final = 8 * 1024 * 1024


class Part:
    """Bytes beside their later place, named after the content they belong to.

    A part of another version of the file is never continued.
    """

    def __init__(self, target: Path, file: HubFile) -> None:
        self.target = target
        self.file = file
        self.path = target.with_name(f"{target.name}.{file.oid[:12]}.part")
        self.size = 0
        self._found = 0
        self._digest = hashlib.sha256()
        self._out: BinaryIO | None = None

    @property
    def present(self) -> bool:
        """Whether the whole file is in its place already."""
        return self.target.is_file() and self.target.stat().st_size == self.file.size_bytes

    @property
    def counted(self) -> int:
        """Bytes that are here, whether they are checked yet or not."""
        return max(self.size, self._found)

    @property
    def arrived(self) -> int:
        """Bytes on the disk, whoever wrote them."""
        return min(self.path.stat().st_size, self.file.size_bytes) if self.path.is_file() else 0

    def open(self) -> None:
        """Make the place for it, and go on behind what is there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._out = self.path.open("ab")
        self._digest = hashlib.sha256()
        self.size, self._found = 0, self._out.tell()
        if self._found > self.file.size_bytes:
            self.restart()

    def read_on(self) -> bool:
        """Take another stretch of what is there into the checksum; False at its end."""
        with self.path.open("rb") as source:
            source.seek(self.size)
            chunk = source.read(_READ_BYTES)
        self._digest.update(chunk)
        self.size += len(chunk)
        return bool(chunk)

    def restart(self) -> None:
        """Forget what has arrived."""
        self._opened.truncate(0)
        self._digest = hashlib.sha256()
        self.size = self._found = 0

    def write(self, chunk: bytes) -> None:
        if self.size + len(chunk) > self.file.size_bytes:
            self.discard()
            raise self._damaged("the hub sent more than it announced")
        self._opened.write(chunk)
        self._opened.flush()
        self._digest.update(chunk)
        self.size += len(chunk)

    def verify(self) -> None:
        """Raises DownloadDamaged, and deletes it, unless it is what the hub has."""
        if self.file.sha256 and self._digest.hexdigest() != self.file.sha256.lower():
            self.discard()
            raise self._damaged("its checksum is not the hub's")

    def discard(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            out.close()

    def move_in(self) -> None:
        """To its place, over an older version, whose parts go too."""
        if self.path.is_file():
            self.path.replace(self.target)
        for other in self.target.parent.glob("*.part"):
            if other.name.startswith(f"{self.target.name}."):
                other.unlink(missing_ok=True)

    @property
    def _opened(self) -> BinaryIO:
        if self._out is None:
            raise StorageError(f"{self.target.name} is not being written.")
        return self._out

    def _damaged(self, why: str) -> DownloadDamaged:
        return DownloadDamaged(
            f"{self.target.name} arrived damaged: {why}. It was deleted.",
            hint="Download it again. If it happens twice, the file on the hub is damaged.",
        )


async def in_thread(work: Callable[[], T]) -> T:
    """Run what blocks; a cancel waits until it is over, so that nothing is closed under it."""
    step = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        with disk_errors():
            return await asyncio.shield(step)
    except asyncio.CancelledError:
        await asyncio.wait([step])
        raise


@contextmanager
def disk_errors() -> Generator[None]:
    """What the disk says, in our words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotEnoughDisk(
                "The disk is full. What has arrived is kept.",
                hint="Make room, and start the download again: it goes on where it stopped.",
            ) from error
        raise StorageError(
            f"The models folder cannot be used: {error.strerror or error}.",
            hint="Check who may write there, or set another one with LMDESK_MODELS_DIR.",
        ) from error
