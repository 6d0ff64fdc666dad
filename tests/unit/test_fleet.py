"""Providers come, change and go while answers are written."""

import pytest

from core.errors import BadParameter
from core.fleet import Fleet
from core.jobs import JobService
from core.library import ModelLibrary
from core.ports import Provider
from core.providers import ProviderConfig
from tests.fakes import FakeProvider

pytestmark = pytest.mark.anyio


class Yard:
    """Builds fakes and knows which of them were closed."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.closed: list[str] = []

    def build(self, config: ProviderConfig) -> Provider:
        if config.base_url == "bad":
            raise BadParameter("'bad' is not an address.")
        self.built.append(config.base_url)
        provider = FakeProvider("m", name=config.name)
        closed = self.closed

        async def aclose() -> None:
            closed.append(config.base_url)

        provider.aclose = aclose  # type: ignore[method-assign]
        return provider


def config(name: str, url: str) -> ProviderConfig:
    return ProviderConfig(name=name, kind="lmstudio", base_url=url)


async def test_what_stays_as_it_is_notices_nothing() -> None:
    yard, library = Yard(), ModelLibrary((), JobService())
    fleet = Fleet(library, yard.build)
    await fleet.become([config("one", "a"), config("two", "b")])
    kept = library.provider("one")

    await fleet.become([config("one", "a"), config("two", "c"), config("three", "d")])

    assert library.provider("one") is kept
    assert (yard.built, yard.closed) == (["a", "b", "c", "d"], ["b"])
    assert {p.name for p in library.providers} == {"one", "two", "three"}

    await fleet.become([config("three", "d")])
    assert sorted(yard.closed) == ["a", "b", "c"]
    assert [p.name for p in library.providers] == ["three"]


async def test_a_configuration_that_cannot_work_changes_nothing() -> None:
    yard, library = Yard(), ModelLibrary((), JobService())
    fleet = Fleet(library, yard.build)
    await fleet.become([config("one", "a")])

    with pytest.raises(BadParameter):
        await fleet.become([config("two", "b"), config("three", "bad")])

    assert [p.name for p in library.providers] == ["one"]
    assert yard.closed == []


async def test_closing_lets_all_go() -> None:
    yard, library = Yard(), ModelLibrary((), JobService())
    fleet = Fleet(library, yard.build)
    await fleet.become([config("one", "a"), config("two", "b")])
    await fleet.aclose()

    assert yard.closed == ["a", "b"]
