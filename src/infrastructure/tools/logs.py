"""What a tool server writes to its standard error, kept in a file of bounded size."""

from pathlib import Path

from core.redaction import Redaction

MAX_BYTES = 256 * 1024
_KEPT_BYTES = MAX_BYTES // 2
_MAX_LINE = 8 * 1024
_END_BYTES = 8 * 1024
_LAST_LINES = 5
_LAST_CHARACTERS = 600


class ServerLog:
    """One server's log. The secrets it was given do not stay in it."""

    def __init__(self, path: Path, redaction: Redaction) -> None:
        self._path = path
        self._redaction = redaction
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Take what arrived; a line is written when it is whole. Never raises for the disk."""
        *lines, rest = (self._rest + data).split(b"\n")
        while len(rest) > _MAX_LINE:
            lines.append(rest[:_MAX_LINE])
            rest = rest[_MAX_LINE:]
        self._rest = rest
        self._append(lines)

    def note(self, text: str) -> None:
        """A line of ours."""
        self.flush()
        self._append([text.encode()])

    def last_words(self) -> str:
        """Its last few lines, in one; empty where there are none."""
        return last_lines(end_of(self._path))

    def flush(self) -> None:
        """Write what came without an end of line."""
        if self._rest:
            lines, self._rest = [self._rest], b""
            self._append(lines)

    def _append(self, lines: list[bytes]) -> None:
        if not lines:
            return
        text = b"".join(line.rstrip(b"\r") + b"\n" for line in lines)
        clean = self._redaction.known(text.decode("utf-8", "replace")).encode()
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(clean[-MAX_BYTES:])
                size = file.tell()
            if size > MAX_BYTES:
                self._shorten()
        except OSError:
            # A full disk must not end the server; its log is the least that is lost then.
            return

    def _shorten(self) -> None:
        kept = self._path.read_bytes()[-_KEPT_BYTES:]
        self._path.write_bytes(kept[kept.find(b"\n") + 1 :])


def log_path(folder: Path, server: str) -> Path:
    """Where a server's log lies; its name is safe for a file."""
    return folder / f"{server}.log"


def end_of(path: Path) -> str:
    """The last lines; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _END_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return text if size <= _END_BYTES else text.partition("\n")[2]


def last_lines(log: str) -> str:
    """The last few of these lines, in one."""
    lines = [line for line in log.splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])[-_LAST_CHARACTERS:]
