"""Models: what there is, what is in memory, and bringing it in and out."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.responses import JSONResponse

from api.errors import status_of
from api.services import Desk, Services
from api.sse import stream_job, wants_events
from core.errors import DeskError
from core.jobs import Job, JobInfo
from core.models import LoadOptions, ModelInfo, ProviderHealth, ProviderKind
from core.registry import ListStats, NameStats
from core.value import Value

router = APIRouter(prefix="/models", tags=["models"])


class ModelName(Value):
    """Which model."""

    model_id: str = Field(min_length=1, max_length=500)


class WantedLoad(ModelName, LoadOptions):
    """What to load and how. What is left out is taken from the model's settings."""

    @property
    def options(self) -> LoadOptions:
        return LoadOptions(**self.model_dump(include=set(LoadOptions.model_fields)))


class UnloadRequest(ModelName):
    """What to unload."""

    force: bool = False
    """End answers being written with it as interrupted, instead of refusing."""


class Outcome(Value):
    """How it went."""

    success: bool
    message: str
    model_id: str


class ProviderName(Value):
    """A configured provider."""

    name: str
    kind: ProviderKind
    remote: bool
    """Somebody else's computer."""


class RegistryStats(Value):
    """The registry's own figures."""

    providers: dict[str, ListStats]
    names: NameStats


@router.get("/")
async def list_models(desk: Desk, refresh: bool = False) -> tuple[ModelInfo, ...]:
    """Every model of every provider that answers."""
    return await desk.library.models(**({"max_age": 0.0} if refresh else {}))


@router.get("/loaded")
async def loaded_models(desk: Desk) -> list[ModelInfo]:
    """Those in memory."""
    return [model for model in await desk.library.models(max_age=2.0) if model.loaded]


@router.get("/search")
async def search_models(desk: Desk, q: Annotated[str, Query(max_length=200)]) -> list[ModelInfo]:
    """Those whose name, size, quantization or publisher match all words of `q`, best first."""
    return await desk.library.search(q)


@router.get("/providers")
async def providers(desk: Desk) -> list[ProviderName]:
    """The configured providers."""
    return [
        ProviderName(name=p.name, kind=p.kind, remote=desk.library.config(p.name).remote)
        for p in desk.library.providers
    ]


@router.get("/providers/stats")
async def providers_stats(desk: Desk) -> RegistryStats:
    """How the lists of models, the looking up of names and the ways to the providers are doing."""
    return RegistryStats(providers=desk.library.stats(), names=desk.library.name_stats())


@router.get("/providers/health")
async def providers_health(desk: Desk) -> list[ProviderHealth]:
    """How each provider is, found out now."""
    return await desk.watch.look()


@router.post("/load", response_model=Outcome)
async def load_model(body: WantedLoad, desk: Desk, request: Request, wait: bool = True) -> Response:
    """Load a model. Success means that the provider lists it as loaded afterwards."""
    model = await desk.library.resolve(body.model_id)
    job = desk.library.start_load(model, body.options)
    if wants_events(request):
        return stream_job(job)
    if not wait:
        return _accepted(job)
    return await _outcome(desk, job, body.model_id, f"Model {body.model_id} loaded successfully")


@router.post("/unload", response_model=Outcome)
async def unload_model(
    body: UnloadRequest, desk: Desk, request: Request, wait: bool = True
) -> Response:
    """Take a model out of memory. Success means that the provider no longer lists it as loaded."""
    model = await desk.library.resolve(body.model_id)
    job = desk.library.start_unload(model, force=body.force)
    if wants_events(request):
        return stream_job(job)
    if not wait:
        return _accepted(job)
    return await _outcome(desk, job, body.model_id, f"Model {body.model_id} unloaded successfully")


@router.get("/{provider}")
async def provider_models(provider: str, desk: Desk) -> list[ModelInfo]:
    """One provider's models."""
    return await desk.library.models_of(provider)


@router.get("/{provider}/{model_id:path}")
async def one_model(provider: str, model_id: str, desk: Desk) -> ModelInfo:
    """One model."""
    desk.library.provider(provider)
    return await desk.library.resolve(f"{provider}:{model_id}")


def _accepted(job: Job) -> JSONResponse:
    return JSONResponse(job.info.model_dump(mode="json"), 202)


async def _outcome(desk: Services, job: Job, model_id: str, sentence: str) -> JSONResponse:
    await job.ended.wait()
    if job.state == "done":
        return JSONResponse({"success": True, "message": sentence, "model_id": model_id})
    info: JobInfo = job.info
    error = DeskError(f"{model_id}: the {job.kind} was {job.state}.")
    if info.error is not None:
        error = DeskError(info.error.message, hint=info.error.hint)
        error.code = info.error.code  # type: ignore[misc]
    body = {
        "success": False,
        "message": error.message,
        "model_id": model_id,
        "code": error.code,
        "hint": error.hint,
        "detail": error.message,
        "status": (status := status_of(error) if info.error else 409),
    }
    return JSONResponse(body, status, media_type="application/problem+json")
