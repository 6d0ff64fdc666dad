"""Redaction: takes secrets out of what is kept for looking at later, or given away as a file."""

import re
from collections.abc import Iterable
from typing import Any

REMOVED = "[removed]"
# Shorter ones would tear up ordinary words.
SHORTEST_SECRET = 6
# Whole names only: `max_tokens` and `prompt_tokens` are no secrets.
NAMES = (
    *("authorization", "proxy-authorization", "cookie", "set-cookie"),
    *("x-api-key", "api-key", "api_key", "apikey"),
    *("access_token", "refresh_token", "id_token", "auth_token", "token"),
    *("password", "passwd", "secret", "client_secret", "clientpasskey", "passkey"),
)
_PATTERNS = (
    # A name and a password before the host of an address.
    re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://)[^\s/?#@\"']+(?=@)", re.I),
    # A secret in a query.
    re.compile(rf"(?P<keep>[?&;](?:{'|'.join(NAMES)})=)[^&#;\s\"']+", re.I),
    # An Authorization header quoted back.
    re.compile(r"(?P<keep>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/:=-]{6,}", re.I),
    # What LM Studio, OpenAI and Hugging Face call their keys.
    re.compile(r"(?P<keep>\b)(?:sk|hf|lms)[-_][A-Za-z0-9._:-]{12,}"),
)


class Redaction:
    """Knows this desk's own secrets, and what secrets look like."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._known: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """These too, besides those known before."""
        self._secrets |= {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
        # The longest first: one may be a part of another.
        ordered = sorted(self._secrets, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def known(self, text: str) -> str:
        """The text without this desk's own secrets, and otherwise to the letter."""
        return self._known.sub(REMOVED, text) if self._known else text

    def text(self, text: str) -> str:
        """The text without anything that is, or looks like, a secret."""
        text = self.known(text)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<keep>{REMOVED}", text)
        return text

    def facts(self, value: Any) -> Any:
        """The same for everything in a JSON value, and for fields that are named like a secret."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                key: REMOVED if str(key).lower() in NAMES and inner else self.facts(inner)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.facts(inner) for inner in value]
        return value
