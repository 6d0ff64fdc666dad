"""The machine these tests run on, and containers made of files."""

import sys
import threading
from pathlib import Path

import psutil
import pytest

from core.hardware import HardwareSnapshot
from core.ports import HardwareProbe
from infrastructure.hardware import MachineProbe, cgroup, machine
from infrastructure.hardware.cgroup import ContainerMemory, container_memory
from infrastructure.hardware.patience import Patient
from infrastructure.hardware.rates import CpuShare, Rate


def test_a_sample_says_what_this_machine_has(tmp_path: Path) -> None:
    probe: HardwareProbe = MachineProbe(tmp_path / "not" / "there" / "yet")

    sample = probe.sample()
    probe.close()

    assert 0 <= sample.cpu_percent <= 100
    assert sample.cpu_count == psutil.cpu_count()
    assert 0 < sample.memory_used < sample.memory_total <= psutil.virtual_memory().total
    assert sample.swap_total >= sample.swap_used >= 0
    assert sample.disk_total == psutil.disk_usage(str(tmp_path)).total
    assert sample.disk_free is not None
    assert sample.driver.state in (
        "ok", "no_driver", "no_library", "no_permission", "mismatch", "error",
    )  # fmt: skip


def test_importing_the_probe_does_not_load_the_gpu_library() -> None:
    # This process may have read GPUs before, so another one must tell.
    import subprocess

    source = Path(__file__).parents[2] / "src"
    script = "import sys, infrastructure.hardware; sys.exit('pynvml' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=source, timeout=60)

    assert ran.returncode == 0


def test_a_busy_processor_is_seen_from_any_thread(tmp_path: Path) -> None:
    probe = MachineProbe(tmp_path)
    samples: list[HardwareSnapshot] = []
    begun = psutil.cpu_times()
    while psutil.cpu_times().user - begun.user < 0.5:
        sum(range(100_000))

    # psutil's own figure is 0 on a thread's first look.
    looking = threading.Thread(target=lambda: samples.append(probe.sample()))
    looking.start()
    looking.join()
    probe.close()

    assert samples[0].cpu_percent > 0


def test_a_probe_may_be_asked_by_many_threads(tmp_path: Path) -> None:
    probe = MachineProbe(tmp_path)
    samples: list[HardwareSnapshot] = []
    threads = [
        threading.Thread(target=lambda: samples.extend(probe.sample() for _ in range(5)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    probe.close()

    assert len(samples) == 40


def test_what_cannot_be_read_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise psutil.AccessDenied

    for name in (
        "cpu_times", "virtual_memory", "swap_memory", "disk_usage", "disk_io_counters",
        "net_io_counters",
    ):  # fmt: skip
        monkeypatch.setattr(psutil, name, denied)
    probe = MachineProbe(tmp_path)

    sample = probe.sample()
    probe.close()

    assert sample.disk_free is None
    assert sample.disk_read is None
    assert sample.network_received is None
    assert sample.cpu_percent == 0.0


def test_a_rate_is_growth_per_second() -> None:
    now = 10.0
    rate = Rate(lambda: now)

    assert rate.of(100) is None
    now = 12.0
    assert rate.of(300) == 100.0
    assert rate.of(300) is None  # no time has passed
    now = 13.0
    assert rate.of(50) == 0.0  # the counter began again
    now = 14.0
    assert rate.of(None) is None
    now = 15.0
    assert rate.of(60) is None
    now = 16.0
    assert rate.of(61) == 1.0


def test_the_share_of_the_processor_stays_within_its_bounds() -> None:
    share = CpuShare()

    assert all(0 <= share.percent() <= 100 for _ in range(1000))


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_has_the_memory_it_is_given(tmp_path: Path, version: int) -> None:
    files = {
        1: {
            "memory/memory.limit_in_bytes": "1000000",
            "memory/memory.usage_in_bytes": "600000",
            "memory/memory.stat": "cache 5\ntotal_inactive_file 100000\n",
        },
        2: {
            "memory.max": "1000000\n",
            "memory.current": "600000\n",
            "memory.stat": "anon 5\ninactive_file 100000\n",
        },
    }
    for name, content in files[version].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)

    assert container_memory(tmp_path) == ContainerMemory(used=500_000, total=1_000_000)


def test_a_container_without_a_limit_has_the_machines_memory(tmp_path: Path) -> None:
    for name, content in {"max": "max", "current": "600000", "stat": ""}.items():
        (tmp_path / f"memory.{name}").write_text(content)

    assert container_memory(tmp_path) is None
    assert container_memory(tmp_path / "none") is None


def test_a_sample_shows_the_containers_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in {"max": "1000000", "current": "600000", "stat": ""}.items():
        (tmp_path / f"memory.{name}").write_text(content)
    monkeypatch.setattr(machine, "container_memory", lambda: cgroup.container_memory(tmp_path))
    probe = MachineProbe(tmp_path)

    sample = probe.sample()
    probe.close()

    assert (sample.memory_used, sample.memory_total) == (600_000, 1_000_000)


def test_an_overdue_answer_counts_once_it_is_there() -> None:
    release, ended = threading.Event(), threading.Event()
    answers = iter(range(10))

    def slow() -> int:
        answer = next(answers)
        if answer == 0:
            release.wait()
        ended.set()
        return answer

    patient = Patient(slow, seconds=0.05)
    assert patient() is None
    assert patient.busy
    assert patient() is None  # nothing new is asked meanwhile

    release.set()
    assert ended.wait(30)
    while patient.busy:
        ended.wait(0)

    assert patient() in (0, 1)
    assert next(answers) == 2


@pytest.mark.gpu
def test_a_real_gpu_is_read(tmp_path: Path) -> None:
    probe = MachineProbe(tmp_path, patience_seconds=60)
    sample = probe.sample()
    probe.close()
    if sample.driver.state != "ok" or not sample.gpus:
        pytest.skip(f"no NVIDIA GPU here: {sample.driver.message}")

    for gpu in sample.gpus:
        assert gpu.state == "ok"
        assert gpu.memory_total is not None
        assert 0 <= (gpu.memory_used or 0) <= gpu.memory_total
