"""What every test gets: asyncio under anyio, and nothing beyond loopback."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
