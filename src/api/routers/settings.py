"""Settings: what they are, where each comes from, and changing those that may change."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header

from api.config_edit import Change
from api.services import Desk, Services
from api.settings_patch import existing_name, from_entry, from_patch, without
from api.settings_view import configured
from core.configured import Changed, Configured, ProviderSetting
from core.errors import ProviderNotFound

router = APIRouter(prefix="/settings", tags=["settings"])

# The content of the file a change is made for, as `revision` of an answer says it.
Revision = Annotated[str | None, Header(alias="if-match", max_length=100)]


@router.get("")
async def read(desk: Desk) -> Configured:
    """Every setting with where it comes from. Of a secret only whether it is set."""
    await desk.configuration.look()
    return configured(desk.configuration, desk.watch.healths)


@router.patch("")
async def change(desk: Desk, body: dict[str, Any], if_match: Revision = None) -> Changed:
    """Change settings: a merge patch, in which null means the default. Written to lmdesk.yaml."""
    await desk.configuration.look()
    return await _changed(desk, from_patch(desk.configuration, body), if_match)


@router.post("/undo/{word}")
async def undo(desk: Desk, word: str) -> Changed:
    """Take back the last change, byte for byte."""
    await desk.configuration.undo(word)
    return _view(desk, None)


@router.get("/providers/{name}")
async def read_provider(desk: Desk, name: str) -> ProviderSetting:
    """What is set for one provider."""
    await desk.configuration.look()
    found = existing_name(desk.configuration, name)
    shown = configured(desk.configuration, desk.watch.healths).providers
    provider = next((each for each in shown if each.name == found), None)
    if provider is None:
        raise ProviderNotFound(
            f"No provider is called '{name}'.",
            hint=f"The providers are: {', '.join(each.name for each in shown)}.",
        )
    return provider


@router.put("/providers/{name}")
async def write_provider(
    desk: Desk, name: str, body: dict[str, Any], if_match: Revision = None
) -> Changed:
    """Add a provider or replace what is set for it. A token that is left out stays."""
    await desk.configuration.look()
    return await _changed(desk, from_entry(desk.configuration, name, body), if_match)


@router.delete("/providers/{name}")
async def remove_provider(desk: Desk, name: str, if_match: Revision = None) -> Changed:
    """Take a provider out of the file, and out of the fallback."""
    await desk.configuration.look()
    return await _changed(desk, without(desk.configuration, name), if_match)


async def _changed(desk: Services, changes: Sequence[Change], revision: str | None) -> Changed:
    if not changes:
        return _view(desk, None)
    asked = revision.strip('"') if revision else None
    word = await desk.configuration.change(changes, revision=asked)
    return _view(desk, word)


def _view(desk: Services, undo: str | None) -> Changed:
    shown = configured(desk.configuration, desk.watch.healths)
    return Changed(**dict(shown), undo=undo)
