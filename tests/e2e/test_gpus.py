"""GPUs on the page, through the real ctypes path with a stand-in for NVIDIA's library."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Locator, expect

from infrastructure.hardware.processes import sees_host_numbers
from tests.e2e.conftest import Open
from tests.e2e.running import Desk
from tests.e2e.screen import Screen
from tests.nvml import TWO_GPUS, build, compiler
from tests.sockets import free_port

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or compiler() is None,
    reason="the stand-in for NVIDIA's library needs Linux and a C compiler",
)


class Machine:
    """What the library says of this machine, for the desk that reads it."""

    def __init__(self, folder: Path) -> None:
        self.settings = folder / "gpus.conf"
        self.settings.write_text(TWO_GPUS)
        self.desk = Desk(
            folder,
            lmstudio_url=f"http://127.0.0.1:{free_port()}",
            embedded="off",
            environment={"LD_LIBRARY_PATH": str(folder), "NVML_STUB_FILE": str(self.settings)},
        )


@pytest.fixture(scope="module")
def running_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(build(tmp_path_factory.mktemp("gpus")))
    made.desk.start()
    yield made
    made.desk.stop()


@pytest.fixture
def machine(running_machine: Machine) -> Machine:
    """With both its GPUs."""
    running_machine.settings.write_text(TWO_GPUS)
    return running_machine


def gauge(screen: Screen, name: str) -> Locator:
    return screen.page.locator(f"#gauges .gauge[data-key={name}]")


@pytest.mark.skipif(not sees_host_numbers(), reason="in a container no driver knows our processes")
def test_other_programs_are_named_with_what_they_hold(machine: Machine, open_tab: Open) -> None:
    me, gone = psutil.Process(), 4_194_303  # more than any process has as its number
    held = f"gpu0.compute={me.pid}:{3 * 2**30},{gone}:{2**30}\n"
    machine.settings.write_text(TWO_GPUS + held)
    screen = open_tab(machine.desk)
    first, second = (
        screen.page.locator(f'[data-bar="gpu{index}"] li', has_text="Other programs")
        for index in (0, 1)
    )
    expect(first).to_contain_text(f"6.0 GB ({me.name()} 3.0, …)")
    expect(second).to_have_count(0)

    machine.settings.write_text(TWO_GPUS)
    expect(first).not_to_contain_text("(")
    expect(first).to_contain_text("6.0 GB")


def test_two_gpus_are_shown_and_one_that_is_lost_does_not_take_the_other(
    machine: Machine, open_tab: Open
) -> None:
    screen = open_tab(machine.desk)
    expect(gauge(screen, "gpu0")).to_contain_text("37 %")
    expect(gauge(screen, "gpu0")).to_contain_text("54")
    expect(gauge(screen, "gpu0").locator("[title]")).to_have_attribute(
        "title", "NVIDIA GeForce RTX 4090"
    )
    expect(gauge(screen, "vram0")).to_contain_text("24")
    expect(gauge(screen, "gpu1")).to_contain_text("0 %")
    expect(gauge(screen, "vram1")).to_contain_text("12")
    expect(screen.page.locator("#gpu-note")).to_be_hidden()
    expect(screen.page.locator("#memory-map")).to_contain_text("In VRAM 0")

    machine.settings.write_text(TWO_GPUS.replace("gpu1.util=0", "gpu1.util=81") + "gpu0.err=15\n")
    expect(gauge(screen, "gpu0")).to_contain_text("The GPU has gone")
    expect(gauge(screen, "vram0").locator("output")).to_have_text("–")
    expect(gauge(screen, "gpu1")).to_contain_text("81 %")
    expect(gauge(screen, "cpu")).to_contain_text("%")


def test_without_a_driver_the_page_says_so_and_shows_the_rest(
    spare_desk: Desk, open_tab: Open
) -> None:
    screen = open_tab(spare_desk)
    expect(screen.page.locator("#gpu-note")).to_contain_text("only processor and memory")
    expect(screen.page.locator("#gauges .gauge")).to_have_count(2)
