"""A scripted API in memory, for looking at the page and for testing its client over real HTTP."""

from tests.fake_api.routes import fake_api
from tests.fake_api.world import ANSWER, World, add_exchange, furnished

__all__ = ["ANSWER", "World", "add_exchange", "fake_api", "furnished"]
