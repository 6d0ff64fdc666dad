"""What every test gets: asyncio under anyio, nothing beyond loopback, and its place among the others."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Files whose tests share what is installed once: side by side they would do it twice.
TOGETHER = {
    "tests/integration/test_tool_servers.py": "tool servers of others",
    "tests/integration/test_runs_real.py": "tool servers of others",
}


class Placing(LoadScopeScheduling):
    """With several workers: the page is tested by one of them, and otherwise each file is."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "the page" if file.startswith("tests/e2e/") else TOGETHER.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Placing:
    return Placing(config, log)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
