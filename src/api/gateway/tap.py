"""Looking at an answer while it passes: how many events, whether it was complete, and its usage."""

import re
from collections import deque

# A stream's last events: the end of the text, the usage, the end mark.
_KEPT_CHUNKS = 4
_KEPT_BYTES = 4096
# One that ends the text and the end mark.
_NO_TEXT_EVENTS = 2
_ENDS = (b"[DONE]", b'"finish_reason":"', b'"finish_reason": "', b"response.completed")
_MORE_ENDS = (b"response.incomplete", b"response.failed", b'{"error"', b'{"type":"error"')
_INPUT = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d+)')
_OUTPUT = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d+)')
_TEXT = re.compile(
    rb'"(?:content|text|reasoning|reasoning_content|arguments|delta)"\s*:\s*"[^"]|"tool_calls"\s*:\s*\['
)


class Tap:
    """What one answer's bytes told. Costs a search a chunk, and no parsing."""

    def __init__(self) -> None:
        self._lines = 0
        self._tail: deque[bytes] = deque(maxlen=_KEPT_CHUNKS)

    def take(self, chunk: bytes) -> None:
        """Some whole events."""
        self._lines += chunk.count(b"\n")  # sooner found than a word
        self._tail.append(chunk if len(chunk) <= _KEPT_BYTES else chunk[-_KEPT_BYTES:])

    @property
    def complete(self) -> bool:
        """Whether the stream came to the end that its protocol wants."""
        return has_end(b"".join(self._tail))

    def usage(self) -> tuple[int, int]:
        """Tokens read and written; without the server's own figures, an event is a token."""
        tail = b"".join(self._tail)
        read, written = _INPUT.findall(tail), _OUTPUT.findall(tail)
        events = max(0, self._lines // 2 - _NO_TEXT_EVENTS)
        return int(read[-1]) if read else 0, int(written[-1]) if written else events


def usage_of(body: bytes) -> tuple[int, int]:
    """Tokens read and written, as the end of a whole answer tells."""
    end = body[-_KEPT_BYTES:]
    read, written = _INPUT.findall(end), _OUTPUT.findall(end)
    return int(read[-1]) if read else 0, int(written[-1]) if written else 0


def has_token(chunk: bytes) -> bool:
    """Whether these events hold something of the answer itself."""
    return _TEXT.search(chunk) is not None


def has_end(events: bytes) -> bool:
    """Whether a stream that stops here is complete."""
    return any(end in events for end in _ENDS + _MORE_ENDS)


def whole_events(chunk: bytes) -> int:
    """How many bytes of it are complete events."""
    plain = chunk.rfind(b"\n\n")
    if plain >= 0:  # no server mixes the two kinds of line ends
        return plain + 2
    # Only now: a search for what is not there goes through all of it.
    windows = chunk.rfind(b"\r\n\r\n")
    return windows + 4 if windows >= 0 else 0
