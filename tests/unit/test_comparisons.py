"""Comparisons: what a column is doing, and which columns share a machine."""

import pytest

from core.comparisons import Column, ColumnNotFound, Comparison, Order, Part, Round
from core.comparisons_now import column_now
from core.comparisons_order import machine_of, usual_order
from core.jobs import JobService
from core.library import ModelLibrary
from core.models import ModelInfo
from core.providers import ProviderConfig
from tests.fakes import FakeProvider, FakeStore

pytestmark = pytest.mark.anyio


def comparison(*parts: Part, chat_id: str = "none") -> Comparison:
    return Comparison(
        id="c",
        title="Why?",
        columns=tuple(Column(number=part.column, chat_id=chat_id) for part in parts),
        rounds=(Round(content="Why?", order="one_by_one", parts=parts, started_at=1.0),),
        created_at=1.0,
        updated_at=1.0,
    )


async def test_a_column_waits_for_those_before_it_as_long_as_the_round_lives() -> None:
    told = comparison(Part(column=1), Part(column=2, state="stopped"), Part(column=3))

    now = await column_now(FakeStore(), told, 3, live=True)
    assert (now.state, now.waits_for) == ("waiting", (1,))
    now = await column_now(FakeStore(), told, 2, live=True)
    assert now.state == "stopped"


async def test_what_a_crash_left_waiting_is_interrupted() -> None:
    told = comparison(Part(column=1))

    now = await column_now(FakeStore(), told, 1, live=False)
    assert (now.state, now.reason) == ("interrupted", "server_stopped")


async def test_a_column_whose_chat_was_deleted_is_gone() -> None:
    told = comparison(Part(column=1, state="asked", message_id="m"))

    assert (await column_now(FakeStore(), told, 1, live=False)).state == "gone"


async def test_there_is_no_column_beyond_the_last() -> None:
    with pytest.raises(ColumnNotFound, match="no column 2"):
        comparison(Part(column=1)).column(2)


@pytest.mark.parametrize(
    ("hosts", "order"),
    [
        (("http://127.0.0.1:1234", "http://localhost:11434"), "one_by_one"),
        (("http://127.0.0.1:1234", ""), "one_by_one"),
        (("http://10.0.0.5:1234", "http://127.0.0.1:1234"), "together"),
        (("http://10.0.0.5:1234", "http://10.0.0.5:8080"), "one_by_one"),
        (("https://one.example", "https://one.example"), "together"),
    ],
)
async def test_columns_that_share_a_machine_of_ones_own_take_turns(
    hosts: tuple[str, str], order: Order
) -> None:
    library = ModelLibrary((), JobService())
    models = []
    for name, host in zip("ab", hosts, strict=True):
        config = ProviderConfig(
            name=name, kind="openai", base_url=host, remote=host.startswith("https")
        )
        library.add(FakeProvider("m", name=name), config)
        models.append(ModelInfo(id="m", provider=name, name="M"))

    assert usual_order(library, models) == order
    assert (machine_of(library, models[0]) is None) == hosts[0].startswith("https")
