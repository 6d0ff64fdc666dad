"""Signing in to a remote tool server: the client's OAuth with a person and their browser in the middle."""

import asyncio
import hashlib
import hmac
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import AnyUrl

from core.errors import DeskError
from core.tool_entries import ServerEntry
from core.tool_sign_in import SignInAnswer, SignInFailed, SignInGone, SignInPage
from infrastructure.tools.keys import KeyFile

if TYPE_CHECKING:
    from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthToken

log = logging.getLogger(__name__)

# Until a person comes back from the page they were sent to.
PERSON_SECONDS = 300.0
# For the questions before that page, and for those after it.
SERVER_SECONDS = 30.0
# Servers answer it, or say that they want a key first, in either era; it changes nothing.
_PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
_PING_HEADERS = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2025-06-18",
}
_REPLACED = "was asked once more where to sign in, so this sign-in is over: the newer one counts."
_FORGOTTEN = "was signed out of meanwhile, or is not trusted any more, so this sign-in is over."
_ENDING = "was not signed in to: LM Desk is ending."
_DENIED = {"access_denied": "You, or the server, said no."}


class SigningIn:
    """The sign-ins that were begun, one a server."""

    def __init__(self, keys: KeyFile) -> None:
        self._keys = keys
        self._flows: dict[str, _Flow] = {}

    @property
    def waiting(self) -> tuple[str, ...]:
        """Servers whose sign-in waits for a person."""
        return tuple(name for name, flow in self._flows.items() if flow.waits)

    async def begin(self, entry: ServerEntry, return_to: str, challenge: str = "") -> SignInPage:
        """Ask the server where to sign in; an earlier attempt for it is over.

        `return_to` is the address of ours that the browser comes back to, `challenge` how the
        server asked for it, where it did so at a call. Raises SignInFailed.
        """
        flow = _Flow(entry, return_to, self._keys, challenge)
        before = self._flows.get(entry.name)
        self._flows[entry.name] = flow  # before anything is waited for, so that none is forgotten
        flow.start()
        try:
            if before is not None:
                await before.give_up(_REPLACED)
            return await flow.shown()
        except BaseException:
            self._is_over(flow)
            flow.cancel()  # nobody would ever see its page
            raise

    async def finish(self, answer: SignInAnswer) -> str:
        """Take what came back, once; the name of the server that is signed in to now.

        Raises SignInGone, SignInFailed.
        """
        for name, flow in self._flows.items():
            if flow.waits_for(answer.state):  # once
                try:
                    await flow.came_back(answer)
                finally:
                    self._is_over(flow)
                return name
        raise SignInGone(
            "This sign-in is over: it took longer than "
            f"{PERSON_SECONDS / 60:g} minutes, was used already, or was not begun here.",
            hint="Press Sign in under Tools once more.",
        )

    async def known(self) -> frozenset[tuple[str, str]]:
        """Names and addresses of the servers there are keys for. Raises StorageError."""
        return await self._keys.known()

    async def forget(self, server: str) -> None:
        """Throw its keys away. Raises StorageError."""
        await self._give_up(server, _FORGOTTEN)
        await self._keys.drop(server)

    async def aclose(self) -> None:
        """Give up what was begun."""
        for name in list(self._flows):
            await self._give_up(name, _ENDING)

    async def _give_up(self, server: str, why: str) -> None:
        flow = self._flows.pop(server, None)
        if flow is not None:
            await flow.give_up(why)

    def _is_over(self, flow: "_Flow") -> None:
        if self._flows.get(flow.server) is flow:
            del self._flows[flow.server]


class _Flow:
    """One attempt. It is also the storage the client reads from and writes to."""

    def __init__(self, entry: ServerEntry, return_to: str, keys: KeyFile, challenge: str) -> None:
        self.server = entry.name
        self._entry = entry
        self._return_to = return_to
        self._keys = keys
        self._challenge = challenge
        self._state = ""
        loop = asyncio.get_running_loop()
        self._page: asyncio.Future[str] = loop.create_future()
        self._answer: asyncio.Future[AuthorizationCodeResult] = loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._failure: DeskError | None = None
        self._tokens: OAuthToken | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def shown(self) -> SignInPage:
        """Where to send the person. Raises SignInFailed."""
        assert self._task is not None
        either: set[asyncio.Future[Any]] = {self._task, self._page}
        await asyncio.wait(either, timeout=SERVER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not self._page.done():
            await self.aclose()
            raise self._failure or self._failed("did not say in time where to sign in.")
        url = self._page.result()
        return SignInPage(url=url, host=urlsplit(url).netloc, seconds=PERSON_SECONDS)

    @property
    def waits(self) -> bool:
        """A person was shown its page and has not come back."""
        over = self._task is None or self._task.done() or self._answer.done()
        return self._page.done() and not over

    def waits_for(self, state: str) -> bool:
        """Whether this is its own state, and it still waits."""
        return self.waits and hmac.compare_digest(_digest(state), _digest(self._state))

    async def came_back(self, answer: SignInAnswer) -> None:
        """Turn it into keys. Raises SignInFailed."""
        from mcp.shared.auth import AuthorizationCodeResult

        assert self._task is not None
        if not answer.code:
            await self.aclose()
            said = _DENIED.get(answer.error or "", "Its page came back without a permission.")
            raise self._failed(f"did not let LM Desk in. {said}")
        self._answer.set_result(
            AuthorizationCodeResult(code=answer.code, state=answer.state, iss=answer.iss)
        )
        await asyncio.wait({self._task}, timeout=SERVER_SECONDS)
        if not self._task.done():
            await self.aclose()
            raise self._failed("did not give a key in time.")
        if self._failure is not None:
            raise self._failure

    async def give_up(self, why: str) -> None:
        """End it, and say why to whoever waits for it."""
        if self._task is not None and not self._task.done():
            self._failure = self._failed(why)
        await self.aclose()

    async def aclose(self) -> None:
        """End it."""
        self.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})

    def cancel(self) -> None:
        """Have it end."""
        if self._task is not None:
            self._task.cancel()

    # -- the client's side -----------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._sign_in()
        except DeskError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001 - whatever strangers answer ends this attempt alone
            self._failure = self._failed(_why(error))
            log.info("signing in to %s failed: %s", self._entry.name, type(error).__name__)

    async def _sign_in(self) -> None:
        from mcp.client.auth import OAuthClientProvider

        from infrastructure.tools.remote import keep_small, remote_client
        from infrastructure.tools.sign_in_places import own_host
        from infrastructure.tools.signed_in import (
            UNAUTHORIZED,
            Bounded,
            client_metadata,
            dumped,
            parts_of,
        )

        entry = self._entry
        provider = OAuthClientProvider(
            entry.url,
            client_metadata(self._return_to),
            self,
            redirect_handler=self._show,
            callback_handler=self._wait,
        )
        headers = {name: value.get_secret_value() for name, value in entry.headers.items()}
        async with (
            remote_client(
                headers,
                allow_private=entry.allow_private,
                heard=keep_small,
                auth=Bounded(provider, entry, self._challenge),
                only_here=own_host(entry),
            ) as client,
            client.stream("POST", entry.url, json=_PING, headers=_PING_HEADERS) as response,
        ):
            status = response.status_code
        if self._tokens is None:
            raise self._failed(f"asks nobody to sign in (status {status}).")
        if status == UNAUTHORIZED:
            raise self._failed("gave a key, and then refused it.")
        context = provider.context
        await self._keys.put(
            entry.name,
            entry.url,
            return_to=self._return_to,
            client=dumped(context.client_info),
            metadata=dumped(context.oauth_metadata),
            resource=dumped(context.protected_resource_metadata),
            auth_server=context.auth_server_url,
            **parts_of(self._tokens),
        )

    async def _show(self, url: str) -> None:
        from infrastructure.tools.remote import AddressRefused
        from infrastructure.tools.sign_in_places import sign_in_problem

        # A browser opens it, so what it is matters as much as where it leads.
        if problem := sign_in_problem(url, self._entry):
            raise AddressRefused(problem)
        self._state = parse_qs(urlsplit(url).query).get("state", [""])[-1]
        self._page.set_result(url)

    async def _wait(self) -> "AuthorizationCodeResult":
        async with asyncio.timeout(PERSON_SECONDS):
            return await self._answer

    async def get_tokens(self) -> "OAuthToken | None":
        """None: whoever signs in wants new ones."""
        return None

    async def set_tokens(self, tokens: "OAuthToken") -> None:
        """Kept at the end, with all that belongs to them."""
        self._tokens = tokens

    async def get_client_info(self) -> "OAuthClientInformationFull | None":
        """Who we are there already, where that comes back to the same address."""
        from mcp.shared.auth import OAuthClientInformationFull

        entry = self._entry
        if entry.client_id:
            secret = entry.client_secret
            return OAuthClientInformationFull(
                client_id=entry.client_id,
                client_secret=secret.get_secret_value() if secret else None,
                token_endpoint_auth_method="client_secret_post" if secret else "none",
                redirect_uris=[AnyUrl(self._return_to)],
            )
        kept: dict[str, Any] = await self._keys.get(self._entry.name, self._entry.url)
        if not kept.get("client") or kept.get("return_to") != self._return_to:
            return None
        return OAuthClientInformationFull.model_validate(kept["client"])

    async def set_client_info(self, client_info: "OAuthClientInformationFull") -> None:
        """Kept at once: another attempt need not register again."""
        from infrastructure.tools.signed_in import dumped

        await self._keys.put(
            self._entry.name,
            self._entry.url,
            client=dumped(client_info),
            return_to=self._return_to,
        )

    def _failed(self, why: str) -> SignInFailed:
        return SignInFailed(
            f"The tool server {self._entry.name} {why}",
            hint="Try again, or put a token into its headers instead.",
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _why(error: BaseException) -> str:
    """In our words: the client's may quote a key, and those of strangers are theirs."""
    import httpx2
    from mcp.client.auth import OAuthFlowError, OAuthRegistrationError, OAuthTokenError

    from infrastructure.tools.remote import AddressRefused

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case AddressRefused():
            return f"sends LM Desk to where it must not go: {error}"
        case TimeoutError():
            return "was not signed in to in time."
        case OAuthRegistrationError():
            return (
                "does not say how to sign in, or does not let programs such as LM Desk register "
                "with it by themselves."
            )
        case OAuthTokenError():
            return "did not give a key for what its page came back with."
        case OAuthFlowError():
            return "says things about its sign-in that do not fit together."
        case httpx2.TransportError():
            return f"or the place it signs in at cannot be reached: {error}"
        case _:
            return "answers about its sign-in what cannot be used."
