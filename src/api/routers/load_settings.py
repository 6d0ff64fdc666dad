"""Load settings: how a model is to be loaded from now on."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.routers.models import WantedLoad
from api.services import Desk, Services
from core.errors import BadParameter
from core.load_settings import OPTIONS, LoadSettingsView
from core.models import LoadOptions, ModelInfo

# Included before the routes of single models, whose paths would match these too.
router = APIRouter(prefix="/models", tags=["models"])


@router.get("/settings")
async def read_settings(
    desk: Desk, model_id: Annotated[str, Query(min_length=1, max_length=500)]
) -> LoadSettingsView:
    """How this model is loaded when nobody says otherwise."""
    return _view(desk, await desk.library.resolve(model_id))


@router.put("/settings")
async def write_settings(desk: Desk, body: WantedLoad) -> LoadSettingsView:
    """Remember them, all at once: what is left out or null is left to the provider again."""
    model = await desk.library.resolve(body.model_id)
    _require_taken(desk, model, body.options)
    await desk.load_settings.remember(model, body.options)
    return _view(desk, model)


def _require_taken(desk: Services, model: ModelInfo, options: LoadOptions) -> None:
    asked = options.model_dump(exclude_none=True)
    if refused := [name for name in asked if name not in desk.library.load_options(model)]:
        named = ", ".join(name.replace("_", " ") for name in refused)
        takes = ", ".join(name.replace("_", " ") for name in _taken(desk, model))
        raise BadParameter(
            f"{model.provider} does not take {named} for a load.",
            hint=f"It takes {takes}." if takes else "It loads with settings of its own.",
        )


def _taken(desk: Services, model: ModelInfo) -> tuple[str, ...]:
    taken = desk.library.load_options(model)
    return tuple(name for name in OPTIONS if name in taken)


def _view(desk: Services, model: ModelInfo) -> LoadSettingsView:
    return LoadSettingsView(
        model_id=model.full_name,
        options=desk.load_settings.of(model),
        takes=_taken(desk, model),
        choices=desk.load_settings.choices(model),
        max_context_length=model.context_length,
        loaded=model.instances,
    )
