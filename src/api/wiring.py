"""Who plays which part: the only module that knows the adapters."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from api.configuration import Configuration
from api.data_folder import claimed
from api.log_level import set_log_level
from api.provider_look import looked_at
from api.services import Services
from api.settings import Settings
from api.settings_sources import SettingsSources
from api.starter import EngineWithStarter
from core.agent_book import AgentBook
from core.agent_check import AgentChecker
from core.benchmarking import Benchmarks
from core.builtin_agents import BUILTIN_AGENTS
from core.comparisons_room import Room
from core.comparisons_service import ComparisonService
from core.configured import ProviderLook
from core.diagnosis import Diagnosis, diagnosed
from core.downloads import Downloads
from core.embeddings import EmbeddingService
from core.fleet import Fleet
from core.jobs import JobService
from core.keeping import Keeping
from core.learned import Learned
from core.library import ModelLibrary
from core.likeness import Likeness
from core.load_settings import LoadSettings
from core.loads import Loads
from core.monitor import HardwareMonitor
from core.planner import Planner
from core.ports import HardwareProbe
from core.providers import ProviderConfig
from core.recipes import RecipeService
from core.recorder import FlightRecorder
from core.revisions import Revisions
from core.router import Router
from core.runs_service import RunService
from core.similar import SimilarChats
from core.standby import LoadingProvider, StandbyProvider
from core.swap import Swaps
from core.tool_servers import ToolServers
from core.turns import TurnService
from core.upkeep import Upkeep
from core.watch import ProviderWatch
from infrastructure.engine.launcher import EmbeddedEngine
from infrastructure.engine.starter import KEY as STARTER
from infrastructure.engine.starter import fetch_starter, starter_path
from infrastructure.hardware import MachineProbe
from infrastructure.hub import HubClient, HubFolder, HubLookup
from infrastructure.loop import PydanticLoop
from infrastructure.providers.kinds import build
from infrastructure.providers.lmstudio import LMStudioProvider
from infrastructure.storage import open_store, sqlite_url
from infrastructure.tools import (
    ChoiceFile,
    ConfigFiles,
    KeyFile,
    SigningIn,
    ToolDoor,
    usual_files,
)

EMBEDDED = "embedded"
# The page and the API come up without the first look if a provider is slow to answer.
FIRST_LOOK_SECONDS = 1.0


@asynccontextmanager
async def open_services(
    settings: Settings, sources: SettingsSources | None = None
) -> AsyncGenerator[Services]:
    """Open what the app needs; close it in reverse order, whatever happens."""
    async with AsyncExitStack() as stack:
        stack.enter_context(claimed(settings.data_dir))
        store = await stack.enter_async_context(open_store(sqlite_url(settings.data_dir)))
        jobs = JobService()
        configuration = Configuration(settings, sources)
        engine = _engine(settings, jobs)
        standby = _standby(engine) if engine else None
        hub = HubClient(settings.hf_endpoint, token=settings.hf_token)
        stack.push_async_callback(hub.aclose)
        monitor = HardwareMonitor(open_probe(settings.data_dir))
        stack.callback(monitor.close)
        learned = Learned(store.speeds, store.load_history)
        await learned.open()
        jobs.usual_load = learned.load_seconds
        stack.push_async_callback(learned.aclose)
        loads = Loads(store.load_history, monitor, learned.loaded)
        stack.push_async_callback(loads.aclose)
        load_settings = LoadSettings(store.load_settings)
        await load_settings.open()
        library = ModelLibrary((), jobs, loads, load_settings)
        fleet = Fleet(library, build)
        stack.push_async_callback(fleet.aclose)
        await fleet.become(settings.provider_configs())
        if standby is not None:
            library.add(standby)
            stack.push_async_callback(standby.aclose)
        if engine is not None:
            engine.library = library
        stack.push_async_callback(library.aclose)
        watch = ProviderWatch(library, standby=standby, mode=settings.embedded)
        tools = _tools(settings)
        stack.push_async_callback(tools.aclose)
        await stack.enter_async_context(_background(tools.run()))
        agent_book = AgentBook(store.agents, BUILTIN_AGENTS)
        await agent_book.open()
        agents = agent_book.agents
        revisions = Revisions()
        recorder = FlightRecorder(store, store.flights, monitor, secrets=_secrets(settings, engine))
        embeddings = EmbeddingService(library, jobs, store.vectors)
        likeness = Likeness(embeddings)
        stack.push_async_callback(likeness.aclose)
        router = Router(
            library,
            learned,
            monitor,
            lambda: configuration.settings.preferences,
            likeness=likeness,
        )
        turns = TurnService(store, library, jobs, agents, revisions, recorder, learned, router)
        runs = RunService(
            chats=store,
            store=store.runs,
            library=library,
            jobs=jobs,
            router=router,
            agents=agents,
            toolbox=tools,
            loop=PydanticLoop(),
            wait_seconds=settings.approval_minutes * 60,
        )
        await runs.open()
        tools.on_lapse = runs.allowed.forget_server
        turns.runner = runs
        await turns.open()
        keeping = Keeping(store, runs, settings.runs.keep_days)
        for task in (watch.run(), monitor.run(), recorder.run(), keeping.run()):
            await stack.enter_async_context(_background(task))
        stack.push_async_callback(recorder.aclose)
        stack.push_async_callback(turns.aclose)
        stack.push_async_callback(jobs.aclose)
        await _first_look(watch)
        planner = Planner(library, loads, monitor, watch, store)
        swaps = Swaps(library, loads, store)
        downloads = _downloads(settings, hub, library, jobs, watch, monitor)
        upkeep = Upkeep(library, loads, planner, settings.upkeep)
        await stack.enter_async_context(_background(upkeep.run()))

        async def changed(new: Settings) -> None:
            await fleet.become(new.provider_configs())
            watch.hurry()
            recorder.keep_out(_secrets(new, engine))
            upkeep.follow(new.upkeep)
            tools.follow(new.tools.rules)
            keeping.follow(new.runs.keep_days)
            runs.wait_seconds = new.approval_minutes * 60
            hub.use_token(new.hf_token)
            set_log_level(new.log_level)

        configuration.on_change(changed)
        await stack.enter_async_context(_background(configuration.run()))
        similar = SimilarChats(store, store.message_index, embeddings, jobs, revisions)
        await stack.enter_async_context(_background(similar.run()))
        yield Services(
            store=store,
            jobs=jobs,
            library=library,
            turns=turns,
            watch=watch,
            monitor=monitor,
            revisions=revisions,
            agents=agents,
            agent_book=agent_book,
            agent_checker=AgentChecker(library, tools.list),
            planner=planner,
            swaps=swaps,
            downloads=downloads,
            recorder=recorder,
            load_settings=load_settings,
            learned=learned,
            router=router,
            benchmarks=Benchmarks(library, jobs, learned),
            embeddings=embeddings,
            similar=similar,
            upkeep=upkeep,
            configuration=configuration,
            look_at=look_at,
            tools=tools,
            runs=runs,
            recipes=RecipeService(store.recipes, store, jobs, turns, revisions, tools.list),
            comparisons=ComparisonService(
                store.comparisons,
                store,
                jobs,
                turns,
                library,
                revisions,
                Room(library, planner, swaps, load_settings),
            ),
        )


def open_probe(data_dir: Path) -> HardwareProbe:
    """The reader of this machine; close it."""
    return MachineProbe(data_dir)


def starter_model(data_dir: Path) -> Path | None:
    """Where the starter model lies, None if it is not here yet."""
    return starter_path(data_dir)


async def look_at(config: ProviderConfig) -> ProviderLook:
    """What is at this address."""
    return await looked_at(build(config), remote=config.remote)


async def provider_diagnosis(config: ProviderConfig) -> Diagnosis:
    """What is the matter with the way to this provider."""
    provider = build(config)
    try:
        return await diagnosed(provider)
    finally:
        await provider.aclose()


def _secrets(settings: Settings, engine: EngineWithStarter | None) -> list[str]:
    """What must never be written down or given away."""
    secrets = [token.get_secret_value() for token in settings.secrets]
    return [*secrets, engine.token] if engine is not None else secrets


def _engine(settings: Settings, jobs: JobService) -> EngineWithStarter | None:
    if settings.embedded == "off":
        return None
    budget = settings.engine_memory_budget
    return EngineWithStarter(
        EmbeddedEngine(
            models_dirs=(_models_dir(settings),),
            data_dir=settings.data_dir,
            memory_budget=int(budget) if budget is not None else None,
        ),
        jobs,
        model_id=f"{EMBEDDED}:{STARTER}",
        fetch=lambda: fetch_starter(settings.data_dir),
    )


def _models_dir(settings: Settings) -> Path:
    return settings.models_dir or settings.data_dir / "models"


def _downloads(
    settings: Settings,
    hub: HubClient,
    library: ModelLibrary,
    jobs: JobService,
    watch: ProviderWatch,
    monitor: HardwareMonitor,
) -> Downloads:
    budget = settings.engine_memory_budget
    return Downloads(
        library,
        jobs,
        HubLookup(hub),
        HubFolder(_models_dir(settings), hub),
        embedded=None if settings.embedded == "off" else EMBEDDED,
        healths=lambda: watch.healths,
        sample=lambda: monitor.newest,
        ram_budget=int(budget) if budget is not None else None,
    )


def _tools(settings: Settings) -> ToolServers:
    keys = KeyFile(settings.data_dir / "tool-keys.json")
    others = usual_files() if settings.mcp_files is None else settings.mcp_files
    ours = (settings.url(), *(() if settings.public_url is None else (settings.public_url,)))
    return ToolServers(
        ConfigFiles(settings.data_dir / "mcp.json", others, addresses=ours),
        ChoiceFile(settings.data_dir / "tool-servers.json"),
        ToolDoor(settings.data_dir / "tool-logs", keys),
        settings.tools.rules,
        signing=SigningIn(keys),
    )


def _standby(engine: EngineWithStarter) -> StandbyProvider:
    def connect(url: str) -> LoadingProvider:
        return LMStudioProvider(EMBEDDED, url, token=SecretStr(engine.token), kind="embedded")

    return StandbyProvider(EMBEDDED, engine, connect)


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run it beside us, end it with us."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _first_look(watch: ProviderWatch) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_LOOK_SECONDS):
            await watch.looked.wait()
