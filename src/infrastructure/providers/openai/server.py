"""One server with OpenAI's API, wherever below its address that API lies."""

import re
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from core.ports import RawAnswer
from core.providers import ProviderConfig
from infrastructure.http import clean_base_url, usable_token
from infrastructure.providers.server import HttpServer
from infrastructure.providers.wording import Wording

USUAL = "/v1"
# https://openrouter.ai/api/v1, …/v1beta/openai and the like: people paste what the docs show.
_API = re.compile(r"(?P<api>/v\d+[a-z0-9]*(?:/openai)?)?(?:/chat/completions|/models)?/*$")


class OpenAIServer(HttpServer):
    """Our paths begin with /v1; what the server has instead is put in on the way."""

    def __init__(self, config: ProviderConfig, words: Wording) -> None:
        """Raises BadParameter for an unusable address or token."""
        root, self.api = split_address(config.base_url)
        super().__init__(
            root,
            token=usable_token(config.token),
            who=words.who,
            start_hint=words.start,
            seconds=config.timeout_seconds,
        )

    async def _request(
        self, method: str, path: str, body: dict[str, object] | bytes | None
    ) -> aiohttp.ClientResponse:
        return await super()._request(method, self._there(path), body)

    async def forward(self, path: str, body: bytes) -> RawAnswer:
        return await super().forward(self._there(path), body)

    def _there(self, path: str) -> str:
        """The path as this server has it; one that has been changed stays."""
        return self.api + path.removeprefix(USUAL) if path.startswith(f"{USUAL}/") else path


def split_address(url: str) -> tuple[str, str]:
    """The server's root and the path of its API below that. Raises BadParameter."""
    text = url.strip()
    parts = urlsplit(text if "://" in text else f"http://{text}")
    found = _API.search(parts.path)
    path = parts.path[: found.start()] if found else parts.path
    root = clean_base_url(urlunsplit((parts.scheme, parts.netloc, path, "", "")))
    return root, (found and found["api"]) or USUAL
