"""What the routers work with: built by `api.wiring`, alive as long as the app."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.configuration import Configuration
from core.agent_book import AgentBook
from core.agent_check import AgentChecker
from core.agents import Agent
from core.benchmarking import Benchmarks
from core.comparisons_service import ComparisonService
from core.configured import ProviderLook
from core.downloads import Downloads
from core.embeddings import EmbeddingService
from core.jobs import JobService
from core.learned import Learned
from core.library import ModelLibrary
from core.load_settings import LoadSettings
from core.monitor import HardwareMonitor
from core.planner import Planner
from core.ports import ChatStore
from core.providers import ProviderConfig
from core.recipes import RecipeService
from core.recorder import FlightRecorder
from core.revisions import Revisions
from core.router import Router
from core.runs_service import RunService
from core.similar import SimilarChats
from core.swap import Swaps
from core.tool_servers import ToolServers
from core.turns import TurnService
from core.upkeep import Upkeep
from core.watch import ProviderWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything behind the door."""

    store: ChatStore
    jobs: JobService
    library: ModelLibrary
    turns: TurnService
    watch: ProviderWatch
    monitor: HardwareMonitor
    revisions: Revisions
    agents: dict[str, Agent]
    agent_book: AgentBook
    agent_checker: AgentChecker
    planner: Planner
    swaps: Swaps
    downloads: Downloads
    recorder: FlightRecorder
    load_settings: LoadSettings
    learned: Learned
    router: Router
    benchmarks: Benchmarks
    embeddings: EmbeddingService
    similar: SimilarChats
    upkeep: Upkeep
    configuration: Configuration
    look_at: Callable[[ProviderConfig], Awaitable[ProviderLook]]
    tools: ToolServers
    runs: RunService
    recipes: RecipeService
    comparisons: ComparisonService


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Desk = Annotated[Services, Depends(_services)]
