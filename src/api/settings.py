"""Every setting of LM Desk: its name, its meaning, its default and what it refuses."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from platformdirs import user_data_path
from pydantic import BeforeValidator, ByteSize, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from core.errors import DeskError
from core.upkeep import OnStart, UpkeepRules

PREFIX = "LMDESK_"
TOKEN_LENGTH = 16
PAGE_PORT = 7860
API_PORT = 8000


class BadSetting(DeskError):
    """A setting cannot be used. The message names it, its value and its source."""

    code = "bad_setting"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to this host."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _plain_url(value: object) -> object:
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


def _on_off(value: object) -> object:
    """YAML reads a bare `off` and `on` as false and true."""
    if isinstance(value, bool):
        return "always" if value else "off"
    return value


def _listed(value: object) -> object:
    """A list, or one text with commas."""
    if isinstance(value, str):
        return tuple(part for part in re.split(r"[,\s]+", value) if part)
    return value


def _fits_a_header(token: str) -> bool:
    return token.isascii() and token.isprintable() and token.strip() == token


def _whole_path(value: object) -> object:
    return Path(value).expanduser().absolute() if isinstance(value, str | Path) and value else value


Url = Annotated[str, BeforeValidator(_plain_url)]
Folder = Annotated[Path, BeforeValidator(_whole_path)]


class Settings(BaseSettings):
    """All settings. Building one reads nothing but its arguments; `load_settings` reads the rest."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True
    )

    host: str = Field("127.0.0.1", description="the address to listen on, such as 127.0.0.1")
    port: int = Field(PAGE_PORT, ge=0, le=65535, description="a port from 1 to 65535; 0 picks one")
    data_dir: Folder = Field(
        default_factory=lambda: user_data_path("lmdesk", appauthor=False),
        description="the folder for chats and models",
    )
    lmstudio_url: Url = Field(
        "http://127.0.0.1:1234",
        description="where LM Studio answers, such as http://127.0.0.1:1234",
    )
    lmstudio_token: SecretStr | None = Field(None, description="LM Studio's API token")
    embedded: Annotated[Literal["auto", "off", "always"], BeforeValidator(_on_off)] = Field(
        "auto", description="when to start the built-in engine: auto, off or always"
    )
    models_dir: Folder | None = Field(
        None, description="a folder with GGUF models; `models` in the data folder if unset"
    )
    engine_memory_budget: ByteSize | None = Field(
        None, description="memory the built-in engine may use, such as 8GiB"
    )
    on_start: OnStart = Field(
        "reconnect",
        description="models at the start: reconnect (use what is loaded) or last (if nothing is, "
        "load the last one again)",
    )
    idle_unload_minutes: float | None = Field(
        None, gt=0, description="unload a model LM Desk loaded after so many minutes without use"
    )
    keep_models_within: ByteSize | None = Field(
        None, description="unload the longest unused beyond so much memory, such as 12GiB"
    )
    pinned_models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (), description="models that are never unloaded by themselves, with commas between"
    )
    hf_endpoint: Url = Field(
        "https://huggingface.co",
        description="the hub that models come from, such as https://huggingface.co",
    )
    hf_token: SecretStr | None = Field(
        None, description="a Hugging Face token, for models that are not for everybody"
    )
    token: SecretStr | None = Field(
        None, description=f"the password of this LM Desk, {TOKEN_LENGTH} characters or more"
    )
    token_file: Folder | None = Field(
        None, description="a file that holds the password; it is made if it is not there"
    )
    api_url: Url | None = Field(
        None, description="where `lmdesk gui` finds the API, such as http://127.0.0.1:8000"
    )
    public_url: Url | None = Field(
        None,
        description="the address people open, if a proxy or a container stands before this one",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (), description="further host names this LM Desk is reached by, with commas between"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="how much to log: debug, info, warning or error"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only arguments: a test or a caller gets what it wrote, whatever the machine is set to."""
        return (init_settings,)

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < TOKEN_LENGTH:
            raise ValueError(f"it is shorter than {TOKEN_LENGTH} characters")
        if token is not None and not _fits_a_header(token.get_secret_value()):
            raise ValueError("only letters, digits, spaces and signs of ASCII fit an HTTP header")
        return token

    @field_validator("hf_endpoint")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise ValueError("it must begin with https://")
        return url

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("host")
    @classmethod
    def _bindable(cls, host: str) -> str:
        if not re.fullmatch(r"[\w.:\-\[\]%]+", host):
            raise ValueError("that is not an address")
        return host.strip("[]")

    @model_validator(mode="after")
    def _strangers_need_a_token(self) -> Self:
        if not is_loopback(self.host) and self.token is None and self.token_file is None:
            raise BadSetting(
                f"The host {self.host} lets other machines reach LM Desk, and no token is set.",
                hint=f"Set {PREFIX}TOKEN to a password of {TOKEN_LENGTH} characters or more, "
                "or leave the host at 127.0.0.1.",
            )
        return self

    @property
    def upkeep(self) -> UpkeepRules:
        """What is done about models without being asked."""
        minutes, within = self.idle_unload_minutes, self.keep_models_within
        return UpkeepRules(
            on_start=self.on_start,
            idle_seconds=None if minutes is None else minutes * 60,
            keep_bytes=None if within is None else int(within),
            pinned=self.pinned_models,
        )

    def url(self, *, port: int | None = None) -> str:
        """How this machine reaches a server bound to `host`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port if port is None else port}"
