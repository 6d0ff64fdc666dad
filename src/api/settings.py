"""Every setting of LM Desk: its name, its meaning, its default and what it refuses."""

import os
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

from api.settings_parts import (
    KINDS,
    NAME,
    RESERVED,
    ApiToken,
    FallbackEntry,
    ModelsEntry,
    ProviderEntry,
    RunsEntry,
    ServerUrl,
    ToolsEntry,
    fits_a_header,
    listed,
    plain_url,
)
from core.errors import DeskError
from core.preferences import ModelPreferences
from core.providers import ProviderConfig
from core.upkeep import OnStart, UpkeepRules

PREFIX = "LMDESK_"
TOKEN_LENGTH = 16
PAGE_PORT = 7860
API_PORT = 8000
LMSTUDIO = "lmstudio"
# Where a value stands, such as ('providers', 'work', 'timeout').
Keys = tuple[str | int, ...]


class BadSetting(DeskError):
    """A setting cannot be used. The message names it, its value and its source."""

    code = "bad_setting"

    def __init__(self, message: str, *, hint: str = "", keys: Keys = ()) -> None:
        """`keys` say which value is meant, where a whole file was not."""
        super().__init__(message, hint=hint)
        self.keys = keys

    def extra(self) -> dict[str, object]:
        return {"setting": ".".join(str(key) for key in self.keys)} if self.keys else {}


class Contradiction(BadSetting):
    """Values that are fine by themselves and do not go together. `message` says what is wrong."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to this host."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _on_off(value: object) -> object:
    """YAML reads a bare `off` and `on` as false and true."""
    if isinstance(value, bool):
        return "always" if value else "off"
    return value


def _whole_path(value: object) -> object:
    return Path(value).expanduser().absolute() if isinstance(value, str | Path) and value else value


def _flat(value: object) -> object:
    return {} if value is None else value


def _paths(value: object) -> object:
    """A list, or one text with what the system puts between paths."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(os.pathsep) if part.strip())
    return value


Url = Annotated[str, BeforeValidator(plain_url)]
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
    lmstudio_url: ServerUrl = Field(
        "http://127.0.0.1:1234",
        description="where LM Studio answers, such as http://127.0.0.1:1234",
    )
    lmstudio_token: ApiToken = Field(None, description="LM Studio's API token")
    providers: Annotated[dict[str, ProviderEntry], NoDecode, BeforeValidator(_flat)] = Field(
        {}, description="further servers of models: a name, and under it kind, base_url and so on"
    )
    models: Annotated[ModelsEntry, NoDecode] = Field(
        ModelsEntry(), description="default (auto or a model), and preferences for each task"
    )
    fallback: Annotated[FallbackEntry, NoDecode] = Field(
        FallbackEntry(),
        description="remote: the providers that may answer when no local one can; none if unset",
    )
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
        description="models at the start: nothing (you pick one), reconnect (use what is loaded) "
        "or last (if nothing is, load the last one again)",
    )
    idle_unload_minutes: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="unload a model LM Desk loaded after so many minutes without use",
    )
    keep_models_within: ByteSize | None = Field(
        None, description="unload the longest unused beyond so much memory, such as 12GiB"
    )
    pinned_models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        (), description="models that are never unloaded by themselves, with commas between"
    )
    hf_endpoint: Url = Field(
        "https://huggingface.co",
        description="the hub that models come from, such as https://huggingface.co",
    )
    hf_token: ApiToken = Field(
        None, description="a Hugging Face token, for models that are not for everybody"
    )
    mcp_files: Annotated[tuple[Folder, ...] | None, NoDecode, BeforeValidator(_paths)] = Field(
        None,
        description="the mcp.json files of other programs that are read, with "
        f"{os.pathsep} between; where those keep them if unset, none if empty",
    )
    allow_tool_commands: bool = Field(
        False, description="true lets the page and programs add tool servers that are commands"
    )
    approval_minutes: float = Field(
        5,
        gt=0,
        le=24 * 60,
        description="how long a call of a tool waits for your yes before it counts as denied",
    )
    tools: Annotated[ToolsEntry, NoDecode] = Field(
        ToolsEntry(), description="idle_minutes and max_running of tool servers"
    )
    runs: Annotated[RunsEntry, NoDecode] = Field(
        RunsEntry(), description="keep_days: how long runs outside of chats are kept"
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
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
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
        if token is not None and not fits_a_header(token.get_secret_value()):
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

    @model_validator(mode="after")
    def _commands_stay_here(self) -> Self:
        if self.allow_tool_commands and not is_loopback(self.host):
            raise Contradiction(
                f"whoever reaches LM Desk at {self.host} could run commands on this machine",
                hint="Leave it out, and add such tool servers to mcp.json by hand.",
                keys=("allow_tool_commands",),
            )
        return self

    @model_validator(mode="after")
    def _providers_fit_together(self) -> Self:
        taken: dict[str, str] = {}
        for name, entry in self.entries().items():
            self._check_provider(name, entry)
            for config in entry.configs(name):
                other = taken.setdefault(config.name.casefold(), name)
                if other != name:
                    raise Contradiction(
                        f"that name is taken by '{other}'",
                        hint="Give it another name.",
                        keys=("providers", name),
                    )
        for index, name in enumerate(self.fallback.remote):
            if name.casefold() not in taken:
                raise Contradiction(
                    f"there is no provider '{name}'",
                    hint=f"The providers are: {', '.join(taken)}.",
                    keys=("fallback", "remote", index),
                )
        return self

    @staticmethod
    def _check_provider(name: str, entry: ProviderEntry) -> None:
        if not NAME.fullmatch(name):
            reason = "a provider's name has letters, digits, - and _, and no more than 40 of them"
            raise Contradiction(reason, hint="Give it another name.", keys=("providers", name))
        if name.casefold() in RESERVED:
            reason = f"'{name}' means something else already"
            raise Contradiction(reason, hint="Give it another name.", keys=("providers", name))
        kind = entry.kind_for(name)
        if kind is None:
            raise Contradiction(
                "it has no kind",
                hint=f"Add a kind: one of {', '.join(KINDS)}.",
                keys=("providers", name),
            )
        if entry.base_url is not None and entry.base_urls:
            raise Contradiction(
                "it has base_url and base_urls",
                hint="Keep one of them.",
                keys=("providers", name, "base_urls"),
            )
        if kind == "openai" and not entry.urls:
            raise Contradiction(
                "it has no address, and there is no usual one for kind openai",
                hint="Add a base_url, such as http://127.0.0.1:8000.",
                keys=("providers", name),
            )

    def entries(self) -> dict[str, ProviderEntry]:
        """Every provider by name, also those switched off, with the short settings worked in."""
        entries = {LMSTUDIO: ProviderEntry(), **self.providers}
        return {name: self._completed(name, entry) for name, entry in entries.items()}

    def _completed(self, name: str, entry: ProviderEntry) -> ProviderEntry:
        kind = entry.kind_for(name)
        if name == LMSTUDIO and kind == LMSTUDIO and not entry.urls:
            token = entry.token or self.lmstudio_token
            return entry.model_copy(update={"base_url": self.lmstudio_url, "token": token})
        if kind == "huggingface" and not entry.urls and entry.token is None:
            return entry.model_copy(update={"token": self.hf_token})
        return entry

    def provider_configs(self) -> tuple[ProviderConfig, ...]:
        """Every provider that is switched on, but the built-in engine; names are unique."""
        return tuple(
            config
            for name, entry in self.entries().items()
            if entry.enabled
            for config in entry.configs(name)
        )

    @property
    def preferences(self) -> ModelPreferences:
        """Which models are wanted for what."""
        return ModelPreferences(
            default=self.models.default,
            by_task={str(task): names for task, names in self.models.preferences.items()},
            remote_fallback=self._expanded(self.fallback.remote),
        )

    def _expanded(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The switched-on providers of these names; one with several addresses stands for all."""
        entries = {n: e.configs(n) for n, e in self.entries().items() if e.enabled}
        found = [
            config.name
            for wanted in (name.casefold() for name in names)
            for name, configs in entries.items()
            for config in configs
            if wanted in (name.casefold(), config.name.casefold())
        ]
        return tuple(dict.fromkeys(found))

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """Every password and token there is: never to be logged, kept or given away."""
        given = (self.token, self.lmstudio_token, self.hf_token)
        of_providers = (entry.token for entry in self.providers.values())
        return tuple(token for token in (*given, *of_providers) if token is not None)

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
