"""What every test gets: asyncio under anyio, nothing beyond loopback, and its place among the others."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Files whose tests share what is installed once: side by side they would do it twice.
TOGETHER = {
    "tests/integration/test_tool_servers.py": "tool servers of others",
    "tests/integration/test_runs_real.py": "tool servers of others",
}


# The page's tests in three parts, by the desk they use, so that more than one worker can share them.
WITH_TOOLS = ("compare", "run_ends", "run_pictures", "run_plans", "runs", "tool_servers")
WITH_MODELS = ("banner", "downloads", "learned", "load_settings", "models", "switching", "truth")
ORDER = ["the page", "", "the page with models", "the page with tools", "unit"]


def _part(file: str) -> str:
    """What of the page a file tests; empty when it tests something else."""
    folder, _, name = file.rpartition("/")
    if folder != "tests/e2e":
        return ""
    name = name.removeprefix("test_").removesuffix(".py")
    if name in WITH_TOOLS:
        return "the page with tools"
    return "the page with models" if name in WITH_MODELS else "the page"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first and the short ones last, so that no worker ends long before another."""

    def place(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return ORDER.index("unit" if file.startswith("tests/unit/") else _part(file))

    items.sort(key=place)


class Placing(LoadScopeScheduling):
    """With several workers: a part of the page is tested by one of them, and so is any other file."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _part(file) or TOGETHER.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Placing:
    return Placing(config, log)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
