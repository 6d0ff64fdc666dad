"""GPUs through the real ctypes path, with a library compiled here in the place of NVIDIA's."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from core.hardware import LM_STUDIO, HardwareSnapshot
from tests.nvml import LIBRARY, OBSERVER, TWO_GPUS, build, compiler

SOURCE = Path(__file__).parents[2] / "src"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or compiler() is None,
    reason="the stand-in for NVIDIA's library needs Linux and a C compiler",
)


class Step(NamedTuple):
    """What the library says, from when on, and how many samples are taken of it.

    With `until`, samples are taken until the driver is in that state.
    """

    settings: str
    at: float = 0.0
    samples: int = 1
    until: str = ""
    patience: float = 60.0
    close: bool = False
    container: bool = False


class Seen(NamedTuple):
    seconds: float
    sample: HardwareSnapshot


Observe = Callable[..., list[Seen]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def observe(library: Path, tmp_path: Path) -> Observe:
    def run(*steps: Step, folder: Path = library) -> list[Seen]:
        settings = tmp_path / "gpus.conf"
        plan = json.dumps([step._asdict() for step in steps])
        ran = subprocess.run(
            [sys.executable, "-W", "error", str(OBSERVER), str(settings), plan],
            env=os.environ
            | {
                "PYTHONPATH": str(SOURCE),
                "LD_LIBRARY_PATH": str(folder),
                "NVML_STUB_FILE": str(settings),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        lines = [json.loads(line) for line in ran.stdout.splitlines()]
        return [
            Seen(line["seconds"], HardwareSnapshot.model_validate(line["sample"])) for line in lines
        ]

    return run


def test_two_gpus_are_read_in_full(observe: Observe) -> None:
    ((_, sample),) = observe(Step(TWO_GPUS))

    assert (sample.driver.state, sample.driver.version) == ("ok", "570.86.10")
    first, second = sample.gpus
    assert first.model_dump() == {
        "index": 0,
        "name": "NVIDIA GeForce RTX 4090",
        "uuid": "GPU-aaaa",
        "state": "ok",
        "message": "",
        "utilization_percent": 37.0,
        "memory_used": 6442450944,  # without the driver's reserve
        "memory_total": 25769803776,
        "temperature_celsius": 54.0,
        "power_watts": 123.456,
        "power_limit_watts": 450.0,
        "processes": (),
    }
    assert (second.index, second.name, second.memory_used) == (1, "NVIDIA RTX A2000", 0)
    assert second.utilization_percent == 0.0


def test_an_older_driver_counts_its_reserve_as_used(observe: Observe) -> None:
    ((_, sample),) = observe(Step(TWO_GPUS + "old=1\n"))

    assert sample.gpus[0].memory_used == 6442450944 + 536870912


@pytest.mark.parametrize(
    ("reading", "field"),
    [
        ("util", "utilization_percent"),
        ("memory", "memory_used"),
        ("temp", "temperature_celsius"),
        ("power", "power_watts"),
        ("limit", "power_limit_watts"),
        ("uuid", "uuid"),
    ],
)
@pytest.mark.parametrize("error", [3, 4, 999])
def test_a_reading_that_fails_is_missing_alone(
    observe: Observe, reading: str, field: str, error: int
) -> None:
    ((_, sample),) = observe(Step(f"{TWO_GPUS}gpu0.{reading}.err={error}\n"))

    missing = {name for name, value in sample.gpus[0].model_dump().items() if value is None}
    assert missing == {field} | ({"memory_total"} if field == "memory_used" else set())
    assert sample.gpus[0].state == "ok"
    assert None not in sample.gpus[1].model_dump().values()


def test_a_gpu_that_falls_off_stays_listed_as_lost(observe: Observe) -> None:
    _, (_, failing), (_, reopened), (_, back) = observe(
        Step(TWO_GPUS),
        Step(TWO_GPUS + "gpu0.err=15\n", at=1),
        # Opened anew, the driver counts one GPU, which now has the first number.
        Step("count=1\ngpu0.uuid=GPU-bbbb\ngpu0.name=NVIDIA RTX A2000\ngpu0.temp=33\n", at=40),
        Step(TWO_GPUS, at=80),
    )

    lost, fine = failing.gpus
    assert (lost.index, lost.name, lost.uuid) == (0, "NVIDIA GeForce RTX 4090", "GPU-aaaa")
    assert lost.state == "lost"
    assert lost.message
    assert lost.memory_used is None
    assert fine.state == "ok"
    assert {gpu.uuid: gpu.state for gpu in reopened.gpus} == {"GPU-aaaa": "lost", "GPU-bbbb": "ok"}
    assert len({gpu.index for gpu in reopened.gpus}) == 2
    assert [(gpu.uuid, gpu.state) for gpu in back.gpus] == [("GPU-aaaa", "ok"), ("GPU-bbbb", "ok")]


@pytest.mark.parametrize(
    ("setting", "state"),
    [
        ("gpu0.handle.err=15", "lost"),
        ("gpu0.err=15", "lost"),
        ("gpu0.err=16", "error"),
        ("gpu0.handle.err=4", "no_permission"),
        ("gpu0.err=4", "no_permission"),
        ("gpu0.err=999", "error"),
    ],
)
def test_a_gpu_that_cannot_be_read_says_why_and_the_other_is_read(
    observe: Observe, setting: str, state: str
) -> None:
    ((_, sample),) = observe(Step(f"{TWO_GPUS}{setting}\n"))

    broken, fine = sample.gpus
    assert broken.state == state
    assert broken.message.endswith(".")
    assert fine.state == "ok"


@pytest.mark.parametrize(
    ("code", "state"),
    [(9, "no_driver"), (4, "no_permission"), (18, "mismatch"), (999, "error"), (17, "error")],
)
def test_a_driver_that_does_not_open_is_a_state(observe: Observe, code: int, state: str) -> None:
    ((_, sample),) = observe(Step(f"init.err={code}\n"))

    assert sample.driver.state == state
    assert sample.driver.message.endswith(".")
    assert not sample.driver.message.endswith("..")
    assert sample.gpus == ()
    assert sample.memory_total > 0


def test_a_library_that_cannot_be_loaded_is_a_state(observe: Observe, tmp_path: Path) -> None:
    # An unusable file of that name hides a real library that the machine may have.
    (tmp_path / LIBRARY).write_text("no library")

    ((_, sample),) = observe(Step(""), folder=tmp_path)

    assert sample.driver.state == "no_library"
    assert sample.gpus == ()
    assert sample.memory_total > 0


def test_a_driver_without_gpus_says_so(observe: Observe) -> None:
    ((_, sample),) = observe(Step("count=0\n"))

    assert sample.driver.state == "ok"
    assert "no GPU" in sample.driver.message


def test_a_missing_driver_is_looked_for_every_half_minute(observe: Observe) -> None:
    (_, missing), (_, too_soon), (_, there) = observe(
        Step("init.err=9\n"), Step(TWO_GPUS, at=29, samples=3), Step(TWO_GPUS, at=31)
    )

    assert missing.driver.state == "no_driver"
    assert too_soon.driver.state == "no_driver"
    assert there.driver.state == "ok"
    assert len(there.gpus) == 2


def test_a_driver_that_goes_away_leaves_its_gpus_listed_as_lost(observe: Observe) -> None:
    _, (_, gone), (_, back) = observe(
        Step(TWO_GPUS),
        Step(TWO_GPUS + "count.err=9\n", at=1, samples=2),
        Step(TWO_GPUS, at=60),
    )

    assert gone.driver.state == "no_driver"
    assert [(gpu.name, gpu.state) for gpu in gone.gpus] == [
        ("NVIDIA GeForce RTX 4090", "lost"),
        ("NVIDIA RTX A2000", "lost"),
    ]
    assert [gpu.state for gpu in back.gpus] == ["ok", "ok"]


def test_a_closed_probe_opens_the_library_again(observe: Observe) -> None:
    _, (_, again) = observe(Step(TWO_GPUS, close=True), Step(TWO_GPUS, at=1))

    assert [gpu.state for gpu in again.gpus] == ["ok", "ok"]


def test_a_driver_that_hangs_costs_only_its_own_readings(observe: Observe) -> None:
    hanging = TWO_GPUS + "delay_ms=600000\n"

    _, (_, waiting), (_, silent) = observe(
        Step(TWO_GPUS, samples=2, patience=1.0),
        Step(hanging, at=1),
        Step(hanging, at=2, until="error"),
    )

    assert [gpu.state for gpu in waiting.gpus] == ["ok", "ok"]  # figures a moment old still stand
    assert silent.driver.state == "error"
    assert [gpu.state for gpu in silent.gpus] == ["error", "error"]
    assert [gpu.name for gpu in silent.gpus] == ["NVIDIA GeForce RTX 4090", "NVIDIA RTX A2000"]
    assert silent.gpus[0].memory_used is None
    assert silent.memory_total > 0


def test_a_slow_driver_is_waited_for(observe: Observe) -> None:
    ((seconds, sample),) = observe(Step(TWO_GPUS + "delay_ms=20\n"))

    assert seconds > 0.02 * 10
    assert [gpu.state for gpu in sample.gpus] == ["ok", "ok"]


def test_each_process_is_listed_with_its_memory_and_its_name(observe: Observe) -> None:
    me, parent = os.getpid(), os.getppid()
    used = f"gpu0.compute={me}:1073741824,{parent}:5368709120\n"
    ((_, sample),) = observe(Step(TWO_GPUS + used + f"gpu1.graphics={me}:4096\n"))

    first, second = sample.gpus
    assert first.processes is not None
    names = {pid: psutil.Process(pid).name()[:40] for pid in (me, parent)}
    assert [(p.pid, p.bytes, p.name, p.compute) for p in first.processes] == [
        (parent, 5 * 2**30, names[parent], True),
        (me, 2**30, names[me], True),
    ]
    assert second.processes is not None
    assert [(p.pid, p.bytes, p.compute) for p in second.processes] == [(me, 4096, False)]


@pytest.mark.parametrize("old", ["", "old=1\n"])
def test_one_that_draws_and_reckons_is_one_process_whatever_the_driver(
    observe: Observe, old: str
) -> None:
    both = f"gpu0.compute={os.getpid()}:4096\ngpu0.graphics={os.getpid()}:4096,1:512\n"
    ((_, sample),) = observe(Step(TWO_GPUS + both + old))

    assert sample.gpus[0].processes is not None
    found = [(p.pid, p.bytes, p.compute) for p in sample.gpus[0].processes]
    assert found == [(os.getpid(), 4096, True), (1, 512, False)]


def test_a_process_whose_memory_the_driver_does_not_know_is_listed_without(
    observe: Observe,
) -> None:
    ((_, sample),) = observe(Step(f"{TWO_GPUS}gpu0.compute={os.getpid()}:?\n"))

    assert sample.gpus[0].processes is not None
    assert [(p.pid, p.bytes) for p in sample.gpus[0].processes] == [(os.getpid(), None)]


def test_a_process_that_vanished_is_listed_without_a_name(observe: Observe) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(60)
    used = f"gpu0.compute={gone.pid}:4096,{os.getpid()}:512\n"
    (_, sample), (_, later) = observe(Step(TWO_GPUS + used), Step(TWO_GPUS, at=1))

    assert sample.gpus[0].processes is not None
    assert [p.name is None for p in sample.gpus[0].processes] == [True, False]
    assert later.gpus[0].processes == ()


@pytest.mark.parametrize("error", [3, 4, 999])
def test_a_driver_that_does_not_tell_of_processes_tells_the_rest(
    observe: Observe, error: int
) -> None:
    silent = f"gpu0.compute.err={error}\ngpu0.graphics.err={error}\n"
    half = f"gpu1.compute.err={error}\ngpu1.graphics={os.getpid()}:512\n"
    ((_, sample),) = observe(Step(TWO_GPUS + silent + half))

    first, second = sample.gpus
    assert (first.state, first.memory_used, first.processes) == ("ok", 6442450944, None)
    assert second.processes is not None
    assert [p.bytes for p in second.processes] == [512]


def test_processes_that_begin_while_they_are_listed_are_seen_the_next_time(
    observe: Observe,
) -> None:
    used = f"{TWO_GPUS}gpu0.compute={os.getpid()}:4096\ngpu0.graphics.err=3\n"
    (_, sample), (_, later) = observe(Step(used + "gpu0.compute.more=1\n"), Step(used, at=1))

    assert (sample.gpus[0].state, sample.gpus[0].processes) == ("ok", None)
    assert later.gpus[0].processes is not None
    assert len(later.gpus[0].processes) == 1


def test_in_a_container_nobody_is_taken_for_somebody_else(observe: Observe) -> None:
    used = f"{TWO_GPUS}gpu0.compute={os.getpid()}:4096\n"
    ((_, sample),) = observe(Step(used, container=True))

    assert sample.gpus[0].processes is None
    assert sample.gpus[0].memory_used == 6442450944


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (".lmstudio/.internal/utils/node", LM_STUDIO),  # what holds the models
        ("LM-Studio-0.4.1.AppImage", LM_STUDIO),
        ("llmster", LM_STUDIO),
        ("lmstudio-client/node", "node"),
        ("a-program-with-a-name-that-is-much-longer-than-a-column", None),
    ],
)
def test_lm_studio_is_known_by_its_name_or_its_folder(
    observe: Observe, tmp_path: Path, program: str, name: str | None
) -> None:
    place = tmp_path / "home" / program
    place.parent.mkdir(parents=True)
    shutil.copy(shutil.which("sleep") or "sleep", place)
    with subprocess.Popen([str(place), "600"]) as running:
        try:
            ((_, sample),) = observe(Step(f"{TWO_GPUS}gpu0.compute={running.pid}:4096\n"))
        finally:
            running.kill()

    assert sample.gpus[0].processes is not None
    (found,) = sample.gpus[0].processes
    assert found.name == (name or place.name[:40])


def test_the_many_small_ones_are_left_out(observe: Observe) -> None:
    used = ",".join(f"{number}:{number}" for number in range(1_000_000, 1_000_100))
    ((_, sample),) = observe(Step(f"{TWO_GPUS}gpu0.compute={used}\n"))

    assert sample.gpus[0].processes is not None
    found = [p.pid for p in sample.gpus[0].processes]
    assert found == list(range(1_000_099, 1_000_035, -1))
