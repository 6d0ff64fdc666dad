"""HTTP to the hub: where requests may go, who gets the token, and what its refusals mean."""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from typing import Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from pydantic import SecretStr
from yarl import URL

from core.errors import (
    BadParameter,
    DeskError,
    HubModelNotFound,
    HubNeedsToken,
    HubRejected,
    HubUnreachable,
)
from infrastructure.http import new_client, usable_token

MAX_REDIRECTS: Final = 5
# A server that is silent for this long has gone, whatever the connection says.
SILENCE_SECONDS: Final = 30.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OFFLINE: Final = "Check the internet connection. Models that are here already work without it."


class HubClient:
    """One hub. The token is sent to its own host only, never to where its files really lie.

    Opened on first use, inside the running loop; close with `aclose`. Raises BadParameter for an
    address that is neither https nor on this machine, or an unusable token.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        token: SecretStr | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.base = URL(endpoint.rstrip("/"))
        if not _permitted(self.base, local=True):
            raise BadParameter(
                f"The hub's address {endpoint!r} is not safe.", hint="It must begin with https://."
            )
        self._local = _is_loopback(self.base)
        self._token = usable_token(token)
        self._silence = silence_seconds
        self._client: aiohttp.ClientSession | None = None

    def use_token(self, token: SecretStr | None) -> None:
        """For the requests to come. Raises BadParameter for one that cannot be sent."""
        self._token = usable_token(token)

    @property
    def has_token(self) -> bool:
        return self._token is not None

    @asynccontextmanager
    async def get(
        self, url: URL, *, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The answer below 400 at the end of all redirects; closed afterwards.

        Raises HubUnreachable, HubNeedsToken, HubModelNotFound or HubRejected.
        """
        with hub_errors(self.base.host or ""):
            response = await self._follow(url, dict(headers or {}))
            try:
                if response.status >= 400 and response.status != 416:
                    raise self._refusal(response)
                yield response
            finally:
                response.close()

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _follow(self, url: URL, headers: dict[str, str]) -> aiohttp.ClientResponse:
        for _ in range(MAX_REDIRECTS + 1):
            if not _permitted(url, local=self._local):
                raise HubRejected("The hub sent us to an address that is not safe.")
            response = await self._request(url, headers)
            if response.status not in _REDIRECTS:
                return response
            target = response.headers.get("Location")
            response.close()
            if not target:
                raise HubRejected("The hub sent us on, but not where to.")
            # Signed addresses must stay as they are, to the letter.
            url = response.url.join(URL(target, encoded=True))
        raise HubRejected("The hub sent us from one address to the next, without an end.")

    async def _request(self, url: URL, headers: dict[str, str]) -> aiohttp.ClientResponse:
        if self._client is None:
            self._client = new_client()
        if self._token is not None and url.origin() == self.base.origin():
            headers = headers | {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        return await self._client.get(
            url,
            headers=headers,
            allow_redirects=False,
            proxy=None if _is_loopback(url) else _proxy(url),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=self._silence),
        )

    def _refusal(self, response: aiohttp.ClientResponse) -> DeskError:
        """What a status means. The body is not looked at: it may be anybody's."""
        status, code = response.status, response.headers.get("X-Error-Code", "")
        if status >= 500 or response.url.origin() != self.base.origin():
            # The address of a store is signed for a while only; a new one may do.
            return HubUnreachable(
                f"The hub has trouble of its own ({status}).", hint="Try again in a few minutes."
            )
        if code == "GatedRepo" or status == 403:
            return HubNeedsToken(
                "Its makers give this model only to those who accepted their terms.",
                hint="Accept them on the model's page at Hugging Face, and set LMDESK_HF_TOKEN "
                "to a token of that account.",
            )
        if status == 404 or code in {"RepoNotFound", "EntryNotFound", "RevisionNotFound"}:
            return HubModelNotFound("The hub has no such model.", hint="Check how it is written.")
        if status == 401 and self.has_token:
            return HubNeedsToken(
                "The hub does not accept the token, or has no such model.",
                hint="Check LMDESK_HF_TOKEN and how the model is written.",
            )
        if status == 401:
            return HubModelNotFound(
                "The hub shows no such model to strangers.",
                hint="Check how it is written. A private one needs LMDESK_HF_TOKEN.",
            )
        if status == 429:
            return HubRejected(
                "The hub asks us to wait: too many requests.", hint="Try again in a few minutes."
            )
        return HubRejected(f"The hub refused ({status}).")


@contextmanager
def hub_errors(host: str) -> Generator[None]:
    """The client's exceptions in our words. Addresses are left out: signed ones are secrets."""
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        raise HubUnreachable(
            f"{host} shows a certificate that is not trusted.",
            hint="Something stands between this machine and the hub, such as a proxy.",
        ) from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise HubUnreachable(f"{host} cannot be reached.", hint=_OFFLINE) from error
    except TimeoutError as error:
        raise HubUnreachable(f"{host} did not answer in time.", hint=_OFFLINE) from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise HubUnreachable(
            f"{host} closed the connection before its answer was complete.", hint=_OFFLINE
        ) from error


def _permitted(url: URL, *, local: bool) -> bool:
    """Encrypted, or on this machine; the latter only for a hub that is there itself."""
    if url.host is None or url.user or url.password:
        return False
    if _is_loopback(url):
        return local and url.scheme in ("http", "https")
    return url.scheme == "https"


def _is_loopback(url: URL) -> bool:
    host = url.host or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy(url: URL) -> str | None:
    """The one this person's system is set to; there may be no other way out."""
    if proxy_bypass(url.host or ""):
        return None
    return getproxies().get(url.scheme)
