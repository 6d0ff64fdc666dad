"""What the settings dialog asks: every setting with its words, and changes of those that may change."""

from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter

from app import wording
from app.client import DeskClient
from app.replies import Reply
from core.configured import Address, Changed, Configured, ProviderLook, ProviderSetting, SettingView

STATES = {"ready": "ok", "no_models": "wait", "starting": "wait", "off": "off"}
ORIGINS = {
    "argument": "Command line",
    "environment": "Environment",
    ".env": "The file .env",
    "file": "lmdesk.yaml",
    "default": "Default",
}
UNITS = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
SIZES = {"keep_models_within", "engine_memory_budget"}


class ChangeAsked(Reply):
    """A merge patch for the settings, made for this content of the file."""

    changes: dict[str, Any]
    revision: str | None = None


class ProviderAsked(Reply):
    """All that is to be set for one provider."""

    entry: dict[str, Any]
    revision: str | None = None


class TryAsked(Reply):
    """A server to look at."""

    kind: str
    base_url: str | None = None
    token: str | None = None
    name: str | None = None


def add_settings(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/settings."""

    @router.get("/settings")
    async def settings() -> dict[str, Any]:
        return settings_view(await client.settings())

    @router.patch("/settings")
    async def change(asked: ChangeAsked) -> dict[str, Any]:
        return settings_view(
            await client.change_settings("PATCH", "", asked.changes, revision=asked.revision)
        )

    @router.put("/settings/providers/{name}")
    async def keep(name: str, asked: ProviderAsked) -> dict[str, Any]:
        path = f"/providers/{quote(name, safe='')}"
        return settings_view(
            await client.change_settings("PUT", path, asked.entry, revision=asked.revision)
        )

    @router.delete("/settings/providers/{name}")
    async def remove(name: str, revision: str | None = None) -> dict[str, Any]:
        path = f"/providers/{quote(name, safe='')}"
        return settings_view(await client.change_settings("DELETE", path, revision=revision))

    @router.post("/settings/undo/{word}")
    async def undo(word: str) -> dict[str, Any]:
        return settings_view(await client.change_settings("POST", f"/undo/{quote(word, safe='')}"))

    @router.post("/settings/try")
    async def try_out(asked: TryAsked) -> dict[str, Any]:
        return look_view(await client.try_provider(asked.model_dump(exclude_none=True)))


def settings_view(configured: Configured) -> dict[str, Any]:
    """All that the dialog shows."""
    return {
        "settings": {each.key: setting_view(each) for each in configured.settings},
        "providers": [provider_view(each) for each in configured.providers],
        "file": configured.file,
        "file_exists": configured.file_exists,
        "problem": configured.file_problem.model_dump() if configured.file_problem else None,
        "revision": configured.revision,
        "version": configured.version,
        "undo": configured.undo if isinstance(configured, Changed) else None,
    }


def setting_view(setting: SettingView) -> dict[str, Any]:
    """One setting, its value as a person writes it."""
    value = setting.value
    if setting.key in SIZES and isinstance(value, int):
        value = binary_size(value)
    origin = ORIGINS[setting.origin]
    if setting.origin in {"argument", "environment", ".env"}:
        origin = f"{origin}: {setting.place.removesuffix(' in .env')}"
    return {
        "value": value,
        "words": _words(value),
        "origin": origin,
        "description": setting.description,
        "secret": setting.secret,
        "changeable": setting.changeable,
        "reason": setting.reason,
        "waiting": setting.waiting,
    }


def _words(value: Any) -> str:
    if value is None or value == []:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def binary_size(count: int) -> str:
    """Bytes as they are written in the settings: `12GiB`."""
    for unit, size in UNITS:
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return f"{count}B"


def provider_view(provider: ProviderSetting) -> dict[str, Any]:
    """A row of the list, and what its form begins with."""
    return {
        **provider.model_dump(
            include={
                "name",
                "kind",
                "enabled",
                "timeout",
                "retry_attempts",
                "parallel",
                "remote",
                "locked",
                "removable",
            }
        ),
        "title": wording.provider_name(provider.kind, provider.name),
        "kind_words": wording.PROVIDER_NAMES.get(provider.kind, provider.kind),
        "urls": [provider.base_url] if provider.base_url else list(provider.base_urls),
        "token_set": provider.token == "set",
        "addresses": [address_view(each, provider.enabled) for each in provider.addresses],
        "is_remote": any(each.remote for each in provider.addresses),
        "hosts": sorted({urlsplit(each.url).netloc for each in provider.addresses}),
    }


def address_view(address: Address, enabled: bool) -> dict[str, Any]:
    """One server: its dot (`ok`, `wait`, `bad` or `off`) and its sentence."""
    health = address.health
    if not enabled:
        state, words, hint = "off", "Switched off.", ""
    elif health is None:
        state, words, hint = "wait", "Looking…", ""
    else:
        state = STATES.get(health.state, "bad")
        words, hint = health.message, health.hint
    return {
        "provider": address.provider,
        "url": address.url,
        "remote": address.remote,
        "state": state,
        "words": words,
        "hint": hint,
    }


def look_view(look: ProviderLook) -> dict[str, Any]:
    """What is at an address that is not saved yet."""
    diagnosis = look.diagnosis
    words = diagnosis.message
    if look.model_count is not None:
        number = "1 model" if look.model_count == 1 else f"{look.model_count} models"
        words = f"{words} It has {number}."
    return {
        "state": {"ok": "ok", "note": "wait", "attention": "bad"}[diagnosis.state],
        "words": words,
        "hint": diagnosis.hint,
        "models": list(look.models),
        "remote": look.remote,
    }
