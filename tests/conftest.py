"""What every test gets: asyncio under anyio, nothing beyond loopback, and its place among the others."""

from pathlib import PurePath

import pytest

# Files whose tests share what is installed or started once: side by side they would do it twice, or
# in each other's way.
TOGETHER = {
    "tests/integration/test_tool_servers.py": "tool servers of others",
    "tests/integration/test_runs_real.py": "tool servers of others",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers: the page is one group, and otherwise each file is."""
    for item in items:
        file = PurePath(item.nodeid.partition("::")[0]).as_posix()
        group = "the page" if file.startswith("tests/e2e/") else TOGETHER.get(file, file)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
