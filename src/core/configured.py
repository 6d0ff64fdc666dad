"""Settings as they are shown: their values, where those come from, and what may be changed."""

from typing import Any, Literal

from core.diagnosis import Diagnosis
from core.models import ProviderHealth, ProviderKind
from core.value import Value

SecretState = Literal["set", "not set"]


class SettingView(Value):
    """One setting. A secret's value is never in it."""

    key: str
    """Such as `log_level` or `models.default`."""
    value: Any
    """As JSON; of a secret only `set` or `not set`."""
    secret: bool
    origin: Literal["argument", "environment", ".env", "file", "default"]
    place: str
    """What it is called there, such as `LMDESK_LOG_LEVEL`; empty for a default."""
    description: str
    applies: Literal["now", "start"]
    """Whether a change counts at once or after a restart."""
    changeable: bool
    """Whether it can be changed while LM Desk runs, through the API."""
    reason: str = ""
    """Why not, in one sentence."""
    waiting: bool = False
    """Whether it is changed already and waits for a restart."""


class Address(Value):
    """One server of a provider's entry, with what was seen of it last."""

    provider: str
    """The name models of it carry."""
    url: str
    remote: bool
    health: ProviderHealth | None = None
    """None while it is switched off, or before it was looked at."""


class ProviderSetting(Value):
    """What is set for one provider."""

    name: str
    kind: ProviderKind
    enabled: bool
    base_url: str | None
    base_urls: tuple[str, ...]
    token: SecretState
    timeout: float
    retry_attempts: int
    parallel: int | None
    remote: bool | None
    """None: by the address."""
    addresses: tuple[Address, ...]
    locked: dict[str, str]
    """Keys that cannot be changed here, each with the reason."""
    removable: bool


class FileProblem(Value):
    """Why lmdesk.yaml as it is now was not taken over."""

    message: str
    hint: str = ""


class Configured(Value):
    """All settings."""

    settings: tuple[SettingView, ...]
    providers: tuple[ProviderSetting, ...]
    file: str
    """The lmdesk.yaml that is read and written."""
    file_exists: bool
    file_problem: FileProblem | None = None
    """Until it is mended, what was read before counts."""
    revision: str
    """Changes with the file's content; a change may say which one it was made for."""
    version: str


class Changed(Configured):
    """All settings after a change."""

    undo: str | None = None
    """What takes the change back, while nothing else was changed."""


class ProviderLook(Value):
    """What is at an address that may become a provider's."""

    diagnosis: Diagnosis
    model_count: int | None = None
    """None where the list of its models cannot be had."""
    models: tuple[str, ...] = ()
    """The ids of the first of them."""
    remote: bool
