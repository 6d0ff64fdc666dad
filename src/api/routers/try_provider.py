"""Trying a provider out: what is at an address, before anything is saved."""

from fastapi import APIRouter
from pydantic import Field, SecretStr, ValidationError

from api.configuration import UnusableSetting
from api.services import Desk, Services
from api.settings_parts import ConfigurableKind, ProviderEntry
from api.settings_patch import existing_name
from core.configured import ProviderLook
from core.value import Value

router = APIRouter(prefix="/settings", tags=["settings"])


class Tried(Value):
    """A server that may become a provider."""

    kind: ConfigurableKind
    base_url: str | None = Field(default=None, max_length=500)
    """Left out, the kind's usual address."""
    token: SecretStr | None = None
    """Left out, that of the provider `name`, if the address is one of its own."""
    name: str | None = Field(default=None, max_length=40)
    timeout: float = Field(default=5.0, gt=0, le=30)


@router.post("/providers/test")
async def test_provider(desk: Desk, body: Tried) -> ProviderLook:
    """Look at an address and say what is there. Nothing is saved."""
    (config,) = _entry_of(desk, body).configs(body.name or body.kind)[:1]
    return await desk.look_at(config)


def _entry_of(desk: Services, body: Tried) -> ProviderEntry:
    """What is to be tried, with the token that belongs to this address. Raises UnusableSetting."""
    try:
        entry = ProviderEntry(
            kind=body.kind, base_url=body.base_url, token=body.token, timeout=body.timeout
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        key = str(error.errors()[0]["loc"][0])
        raise UnusableSetting(
            f"The {key} cannot be used: {reason}.",
            hint=f"It should be {ProviderEntry.model_fields[key].description}.",
            parameter=key,
        ) from error
    name = body.name or body.kind
    if not entry.urls_for(name):
        raise UnusableSetting(
            "There is no usual address for this kind.",
            hint="Give one, such as http://127.0.0.1:8000.",
            parameter="base_url",
        )
    kept = desk.configuration.configured.entries().get(
        existing_name(desk.configuration, name) or ""
    )
    said = entry.token is not None or "token" in body.model_fields_set
    if kept is not None and not said and set(entry.urls_for(name)) <= set(kept.urls_for(name)):
        return entry.model_copy(update={"token": kept.token})
    return entry
