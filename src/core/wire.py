"""WireLog: what an adapter sent for one answer and the bare facts of what came back."""

import json
from collections.abc import Mapping
from typing import Any

from core.value import Value

# One fact larger than this is not a fact but a text; the answer's text is kept elsewhere.
MAX_FACT_CHARS = 16_000


class SentRequest(Value):
    """A request as it went out, without its headers."""

    method: str
    url: str
    body: dict[str, Any]


class WireLog:
    """Filled by an adapter while it streams an answer. Two calls an answer, none a token."""

    def __init__(self) -> None:
        self.request: SentRequest | None = None
        self.response: dict[str, Any] | None = None
        """Status, ids, usage, the server's own error, …; None when nothing came back."""

    def sent(self, method: str, url: str, body: Mapping[str, Any]) -> None:
        """About to be sent."""
        self.request = SentRequest(method=method, url=url, body=dict(body))

    def received(self, **facts: Any) -> None:
        """What is known of the reply now; adds to what was said before. None is "not said"."""
        known = {name: bounded(fact) for name, fact in facts.items() if fact is not None}
        self.response = (self.response or {}) | known


def bounded(fact: Any) -> Any:
    """The fact, cut if it is beyond all measure: a foreign server says what it likes."""
    if fact is None or isinstance(fact, bool | int | float):
        return fact
    text = fact if isinstance(fact, str) else json.dumps(fact, default=str)
    if len(text) <= MAX_FACT_CHARS:
        return fact if isinstance(fact, str) else json.loads(text)
    return f"{text[:MAX_FACT_CHARS]}… ({len(text) - MAX_FACT_CHARS:,} more characters)"
