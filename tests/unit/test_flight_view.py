"""The Timeline dialog's numbers: shares of the time axis, and the words beside them."""

from typing import Any

import pytest

from app.flight_ui import flight_view
from core.chats import ModelTruth
from core.flight import Flight, FlightPhase
from core.timeline import Phase
from core.trace import GpuTrace, MachineTrace

GB = 2**30


def phase(name: Phase, start: float, seconds: float, **more: Any) -> FlightPhase:
    return FlightPhase(phase=name, start=start, seconds=seconds, **more)


def flight(*phases: FlightPhase, trace: MachineTrace | None = None, **more: Any) -> Flight:
    fields = {
        "message_id": "m",
        "chat_id": "c",
        "agent_id": None,
        "status": "done",
        "reason": "stop",
        "problem": None,
        "started_at": 1_790_000_000.0,
        "seconds": 10.0,
        "provider": "lmstudio",
        "provider_kind": "lmstudio",
        "model": ModelTruth(asked="lmstudio:qwen/qwen3-4b", instance_id="qwen/qwen3-4b:2"),
        "stats": None,
        "phases": phases,
        "trace": trace or MachineTrace(),
        "request": None,
        "response": None,
    }
    return Flight.model_validate(fields | more)


def test_each_kind_of_phase_is_a_row_with_its_bars_on_one_axis() -> None:
    view = flight_view(
        flight(
            phase("queued", 0, 1, marks=({"at": 0, "progress": None, "stage": "waiting"},)),
            phase("reading", 1, 1, tokens=1),
            phase("thinking", 2, 2),
            phase("writing", 4, 1),
            phase("thinking", 5, 1),
            phase("writing", 6, 4, tokens=30),
        )
    )

    assert [row["label"] for row in view["phases"]] == ["Queue", "Read prompt", "Think", "Write"]
    assert [row["words"] for row in view["phases"]] == ["1.0 s", "1.0 s", "3.0 s", "5.0 s"]
    assert [row["tokens"] for row in view["phases"]] == [None, "1 token", None, "30 tokens"]
    assert [row["times"] for row in view["phases"]] == [1, 1, 2, 2]
    assert view["phases"][0]["stages"] == ["Waiting"]
    assert view["phases"][3]["bars"] == [{"start": 0.4, "share": 0.1}, {"start": 0.6, "share": 0.4}]
    assert view["ticks"] == ["0 s", "5.0 s", "10 s"]


def test_waits_nobody_waited_for_are_left_out_and_other_phases_never() -> None:
    view = flight_view(
        flight(phase("queued", 0, 0.0004), phase("reading", 0, 0.0), phase("writing", 0, 0.0))
    )

    assert [row["label"] for row in view["phases"]] == ["Read prompt", "Write"]


def test_an_answer_that_took_no_time_at_all_still_has_an_axis() -> None:
    view = flight_view(flight(phase("writing", 0, 0), seconds=0.0))

    assert view["phases"][0]["bars"] == [{"start": 0, "share": 0}]


def test_curves_are_shares_with_their_range_in_words() -> None:
    gpu = GpuTrace(
        index=0,
        name="RTX",
        memory_total=24 * GB,
        utilization_percent=(None, 90.0),
        memory_used=(3 * GB, 12 * GB),
    )
    trace = MachineTrace(
        at=(-0.5, 5.0),
        cpu_count=8,
        memory_total=32 * GB,
        cpu_percent=(10.0, 35.0),
        memory_used=(8 * GB, 8 * GB),
        gpus=(gpu,),
    )
    lanes = {lane["label"]: lane for lane in flight_view(flight(trace=trace))["lanes"]}

    assert list(lanes) == ["GPU", "VRAM", "CPU", "RAM"]
    assert lanes["GPU"]["points"] == [(-0.05, None), (0.5, 0.9)]
    assert [lane["words"] for lane in lanes.values()] == ["90 %", "3–12 GB", "10–35 %", "8 GB"]
    assert lanes["VRAM"]["points"][1][1] == pytest.approx(0.5)
    assert (lanes["GPU"]["title"], lanes["CPU"]["title"]) == ("RTX", "8 cores")


def test_two_gpus_are_told_apart_and_unknown_readings_have_no_curve() -> None:
    def gpu(index: int, busy: float | None) -> GpuTrace:
        return GpuTrace(
            index=index,
            name="RTX",
            memory_total=None,
            utilization_percent=(busy,),
            memory_used=(None,),
        )

    trace = MachineTrace(at=(0.0,), gpus=(gpu(0, 5.0), gpu(1, None)), cpu_percent=(1.0,))
    full = trace.model_copy(update={"memory_used": (1,)})

    assert [lane["label"] for lane in flight_view(flight(trace=full))["lanes"]] == ["GPU 0", "CPU"]
    assert flight_view(flight())["lanes"] == []


def test_the_facts_say_who_answered_where_and_how_long_it_took() -> None:
    assert flight_view(flight())["facts"] == [
        "qwen3-4b",
        "LM Studio",
        "instance qwen/qwen3-4b:2",
        "took 10 s",
    ]
    assert flight_view(flight(model=None))["facts"] == ["LM Studio", "took 10 s"]
