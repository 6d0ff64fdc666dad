"""What the connection doctor makes of what it sees, without a network."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from app.doctor_ui import diagnosis_view
from core import diagnosis
from core.diagnosis import Diagnosis, diagnosed, from_health
from core.models import ProviderHealth, ProviderState
from infrastructure.providers.lmstudio import finding_place
from infrastructure.providers.lmstudio.finding import Sight
from infrastructure.providers.lmstudio.finding_place import Place, Whose, this_place
from infrastructure.providers.lmstudio.finding_words import conclude
from tests.fakes import FakeProvider

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010011AC	0003	0	0	0	00000000	0	0	0
eth0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
"""


def seen(**what: object) -> Sight:
    known = {"url": "http://10.1.2.3:1234", "host": "10.1.2.3", "port": 1234, "place": Place()}
    return Sight(**{**known, "knock": "refused", **what})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        ("localhost", "ours"),
        ("127.0.0.1", "ours"),
        ("127.9.9.9", "ours"),
        ("::1", "ours"),
        ("host.docker.internal", "around"),
        ("host.containers.internal", "around"),
        ("192.168.1.5", "elsewhere"),
        ("studio.lan", "elsewhere"),
    ],
)
def test_an_address_tells_whose_machine_it_is(host: str, whose: Whose) -> None:
    assert Place().whose(host) == whose


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A machine without a sign of a container, until files are written."""
    paths = {name: tmp_path / name for name in ("mark", "cgroup", "routes")}
    monkeypatch.setattr(finding_place, "_MARKS", (paths["mark"],))
    monkeypatch.setattr(finding_place, "_CGROUP", paths["cgroup"])
    monkeypatch.setattr(finding_place, "_ROUTES", paths["routes"])
    monkeypatch.delenv("container", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def write(name: str, text: str) -> None:
        paths[name].write_text(text)

    return write


def test_an_ordinary_machine_is_no_container(files: Callable[[str, str], None]) -> None:
    files("cgroup", "0::/init.scope\n")
    files("routes", ROUTES)

    assert this_place() == Place()


@pytest.mark.parametrize(
    ("name", "text"), [("mark", ""), ("cgroup", "12:memory:/docker/0123456789ab\n")]
)
def test_a_container_is_known_by_its_files(
    files: Callable[[str, str], None], name: str, text: str
) -> None:
    files(name, text)

    assert this_place().in_container


def test_in_a_container_the_gateway_is_the_machine_around(
    files: Callable[[str, str], None],
) -> None:
    files("mark", "")
    files("routes", ROUTES)

    assert this_place().whose("172.17.0.1") == "around"


def test_podman_says_it_in_the_environment(
    files: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("container", "podman")

    assert this_place().in_container


def test_a_table_of_routes_that_cannot_be_read_costs_the_gateway_only(
    files: Callable[[str, str], None],
) -> None:
    files("mark", "")
    files("routes", "nonsense\neth0 00000000 notanaddress\nshort\n")

    assert this_place() == Place(in_container=True)


def test_another_machine_that_refuses_may_listen_to_itself_only() -> None:
    found = conclude(seen(), "lm", "lmstudio")

    assert found.code == "remote_refused"
    assert found.command == "lms server start --bind 0.0.0.0"
    assert "container" not in found.evidence


def test_a_machine_that_cannot_be_reached_has_no_command_that_would_help() -> None:
    found = conclude(seen(knock="no_route"), "lm", "lmstudio")

    assert (found.code, found.state, found.command) == ("no_route", "attention", "")
    assert found.hint


def test_an_address_of_ipv6_is_written_with_brackets() -> None:
    found = conclude(seen(host="fe80::1", url="http://[fe80::1]:1234"), "lm", "lmstudio")

    assert "[fe80::1]:1234" in found.message


@pytest.mark.parametrize("state", get_args(ProviderState))
def test_every_state_of_health_has_a_diagnosis(state: ProviderState) -> None:
    health = ProviderHealth(
        provider="p", kind="embedded", state=state, url="", message="So it is.", hint="Do this."
    )
    found = from_health(health)

    assert (found.message, found.hint) == ("So it is.", "Do this.")
    assert (found.state == "ok") is (state in {"ready", "off"})


@pytest.mark.anyio
async def test_a_provider_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(FakeProvider):
        async def health(self) -> ProviderHealth:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(diagnosis, "DIAGNOSIS_SECONDS", 0.01)
    found = await diagnosed(Hanging())

    assert (found.code, found.state) == ("slow", "attention")


@pytest.mark.anyio
async def test_a_provider_that_cannot_look_closer_is_judged_by_its_health() -> None:
    found = await diagnosed(FakeProvider())

    assert (found.code, found.state) == ("ready", "ok")


def test_the_page_is_told_the_providers_name_as_people_say_it() -> None:
    found = Diagnosis(
        provider="lmstudio",
        kind="lmstudio",
        url="http://x",
        code="slow",
        state="attention",
        message="It is slow.",
        checked_at=1.0,
    )

    assert diagnosis_view(found)["name"] == "LM Studio"
    assert diagnosis_view(found.model_copy(update={"provider": "attic"}))["name"] == "attic"
