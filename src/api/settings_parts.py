"""The settings that hold further settings: a provider, the choice of models, the fallback."""

import re
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from core.preferences import AUTO, Task
from core.providers import ProviderConfig, is_remote
from core.tool_room import ToolRules
from core.value import Value

# `embedded` is our own engine, which is not configured here.
ConfigurableKind = Literal["lmstudio", "ollama", "llamacpp", "huggingface", "openai"]
KINDS: tuple[ConfigurableKind, ...] = get_args(ConfigurableKind)
DEFAULT_URLS: dict[str, str] = {
    "lmstudio": "http://127.0.0.1:1234",
    "ollama": "http://127.0.0.1:11434",
    "llamacpp": "http://127.0.0.1:8080",
    "huggingface": "https://router.huggingface.co",
}
# Names that mean something else where a provider's name stands.
RESERVED = frozenset({"embedded", AUTO})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def plain_url(value: object) -> object:
    """The server's root, however it was copied: no trailing slash, no `/v1`."""
    if not isinstance(value, str):
        return value
    url = value.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("that is not the address of a web server")
    return url


def _server_url(value: object) -> object:
    """A plain URL that says where a server is and nothing else."""
    url = plain_url(value)
    if isinstance(url, str):
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise ValueError("an address holds no password; put it in the token")
        if parts.query or parts.fragment:
            raise ValueError("an address ends before ? and #")
    return url


def listed(value: object) -> object:
    """A list, or one text with commas."""
    if isinstance(value, str):
        return tuple(part for part in re.split(r"[,\s]+", value) if part)
    return value


def fits_a_header(token: str) -> bool:
    """Whether a program can send it as it is."""
    return token.isascii() and token.isprintable() and token.strip() == token


def _sendable(token: SecretStr | None) -> SecretStr | None:
    """Without blanks around it; None if nothing is left."""
    text = "" if token is None else token.get_secret_value().strip()
    if not fits_a_header(text) or " " in text:
        raise ValueError("a token has only letters, digits and signs of ASCII")
    return SecretStr(text) if text else None


def _flat(value: object) -> object:
    """Nothing where a mapping is wanted is an empty one, as YAML has it under a bare key."""
    return {} if value is None else value


ServerUrl = Annotated[str, BeforeValidator(_server_url)]
ApiToken = Annotated[SecretStr | None, AfterValidator(_sendable)]
Listed = Annotated[tuple[str, ...], BeforeValidator(listed)]


class ProviderEntry(Value):
    """One provider as it is written under `providers`."""

    kind: ConfigurableKind | None = Field(
        None, description="what kind of server it is: " + ", ".join(KINDS)
    )
    base_url: ServerUrl | None = Field(
        None, description="where it answers, such as http://127.0.0.1:11434"
    )
    base_urls: Annotated[tuple[ServerUrl, ...], BeforeValidator(listed)] = Field(
        (), description="where several of the same kind answer: a list of addresses"
    )
    token: ApiToken = Field(None, description="its API token")
    timeout: float = Field(
        10.0, gt=0, le=600, description="seconds to wait for its list of models, up to 600"
    )
    retry_attempts: int = Field(
        2, ge=0, le=10, description="how often what is safe to repeat is tried again, 0 to 10"
    )
    enabled: bool = Field(True, description="true, or false to leave it out")
    parallel: int | None = Field(
        None, ge=1, le=1000, description="how many requests at a time; more wait their turn"
    )
    remote: bool | None = Field(
        None, description="true if what is sent there leaves your own machines, else false"
    )

    @model_validator(mode="before")
    @classmethod
    def _may_be_bare(cls, value: Any) -> Any:
        return _flat(value)

    @property
    def urls(self) -> tuple[str, ...]:
        """Every address that is written down."""
        return (*(() if self.base_url is None else (self.base_url,)), *self.base_urls)

    def kind_for(self, name: str) -> ConfigurableKind | None:
        """Its kind; that of its name where the name is one, None if nobody said."""
        return self.kind or next((kind for kind in KINDS if kind == name), None)

    def urls_for(self, name: str) -> tuple[str, ...]:
        """Where it answers: as written, or where its kind usually does."""
        kind = self.kind_for(name)
        return self.urls or tuple(url for key, url in DEFAULT_URLS.items() if key == kind)

    def configs(self, name: str) -> list[ProviderConfig]:
        """What it stands for: one provider an address, named `name`, `name-2` and so on.

        The kind has to be known, and an address or the kind's default.
        """
        kind = self.kind_for(name)
        if kind is None:
            return []
        return [
            ProviderConfig(
                name=name if number == 1 else f"{name}-{number}",
                kind=kind,
                base_url=url,
                token=self.token,
                timeout_seconds=self.timeout,
                retry_attempts=self.retry_attempts,
                parallel=self.parallel,
                remote=is_remote(kind, url) if self.remote is None else self.remote,
            )
            for number, url in enumerate(self.urls_for(name), start=1)
        ]


class ModelsEntry(Value):
    """What is written under `models`."""

    default: str = Field(
        AUTO, min_length=1, max_length=300, description="auto, or the name of a model"
    )
    preferences: Annotated[dict[Task, Listed], BeforeValidator(_flat)] = Field(
        {}, description="for coding, research, creative, analysis and general: names, best first"
    )

    @model_validator(mode="before")
    @classmethod
    def _may_be_bare(cls, value: Any) -> Any:
        return _flat(value)


class FallbackEntry(Value):
    """What is written under `fallback`."""

    remote: Listed = Field(
        (), description="names of remote providers that may answer when no local one can"
    )

    @model_validator(mode="before")
    @classmethod
    def _may_be_bare(cls, value: Any) -> Any:
        return _flat(value)


class ToolsEntry(Value):
    """What is written under `tools`."""

    idle_minutes: float = Field(
        15.0,
        ge=0,
        le=1e6,
        description="end a tool server nobody used for so many minutes; 0 never",
    )
    max_running: int = Field(12, ge=1, le=1000, description="how many tool servers may run at once")

    @model_validator(mode="before")
    @classmethod
    def _may_be_bare(cls, value: Any) -> Any:
        return _flat(value)

    @property
    def rules(self) -> ToolRules:
        """The same, as the tool servers want it."""
        minutes = self.idle_minutes
        return ToolRules(
            idle_seconds=minutes * 60 if minutes else None, max_running=self.max_running
        )


class RunsEntry(Value):
    """What is written under `runs`."""

    keep_days: int = Field(
        90,
        ge=0,
        le=36_500,
        description="remove runs outside of chats after so many days; 0 keeps them for ever",
    )

    @model_validator(mode="before")
    @classmethod
    def _may_be_bare(cls, value: Any) -> Any:
        return _flat(value)
