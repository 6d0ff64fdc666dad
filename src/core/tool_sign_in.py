"""Signing in to remote tool servers: what a person is shown, and what comes back from there."""

from typing import Protocol

from core.errors import NotFound, ToolError, ToolServerFailed
from core.tool_entries import ServerEntry
from core.value import Value


class ToolServerNeedsSignIn(ToolServerFailed):
    """The server wants somebody to sign in first."""

    code = "tool_server_needs_sign_in"

    def __init__(self, message: str, *, hint: str = "", challenge: str = "") -> None:
        """`challenge` is how it asked for that, in its own words."""
        super().__init__(message, hint=hint)
        self.challenge = challenge


def challenge_of(failure: ToolError | None) -> str:
    """How the server asked for a sign-in when it last failed; empty where it did not."""
    return failure.challenge if isinstance(failure, ToolServerNeedsSignIn) else ""


class SignInFailed(ToolError):
    """The server's sign-in did not end with a key for us."""

    code = "tool_sign_in_failed"


class SignInGone(NotFound):
    """There is no sign-in this belongs to: it took too long, is over, or was never begun."""

    code = "tool_sign_in_gone"


class SignInPage(Value):
    """Where a person is sent to."""

    url: str
    """Foreign, but looked at: https, or http where the server itself is on this machine."""
    host: str
    """The host of `url`, exactly, with its port where that is not the usual one."""
    seconds: float
    """How long there is to come back from it."""


class SignInAnswer(Value):
    """What the browser brought back. All of it is foreign."""

    state: str = ""
    code: str | None = None
    error: str | None = None
    iss: str | None = None
    """Who says so, where they say it."""


class SignIns(Protocol):
    """Signs in to tool servers, and keeps the keys that come of it."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """Servers whose sign-in waits for a person."""
        ...

    async def begin(self, entry: ServerEntry, return_to: str, challenge: str = "") -> SignInPage:
        """Ask the server where to sign in; an earlier attempt for it is over.

        `return_to` is the address of ours that the browser comes back to, `challenge` how the
        server asked for it, where it did so at a call. Raises SignInFailed.
        """
        ...

    async def finish(self, answer: SignInAnswer) -> str:
        """Take what came back, once; the name of the server that is signed in to now.

        Raises SignInGone, SignInFailed.
        """
        ...

    async def known(self) -> frozenset[tuple[str, str]]:
        """Names and addresses of the servers there are keys for. Raises StorageError."""
        ...

    async def forget(self, server: str) -> None:
        """Throw its keys away. Raises StorageError."""
        ...

    async def aclose(self) -> None:
        """Give up what was begun."""
        ...
