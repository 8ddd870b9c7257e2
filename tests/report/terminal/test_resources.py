"""GPUs and nodes in a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from raylab.plan.resources import GpuDemand
from raylab.plan.this_machine import TimeHere
from raylab.report.terminal.resources import (
    print_demands,
    print_examination,
    print_schedule,
    print_time_here,
)

SCHEDULE = {
    "gpus": 4,
    "slots": 8,
    "unit": "seconds",
    "measured": 1,
    "work": 7200.0,
    "makespan": 1000.0,
    "bound": 900.0,
    "idle": 0.1,
    "gpu_hours": 2.0,
    "trials": [{"name": "a"}, {"name": "b"}],
}


def _printed(show, *values) -> str:
    stream = io.StringIO()
    show(*values, Console(file=stream, width=112, color_system=None))
    return stream.getvalue()


def test_print_schedule_measured_says_minutes_and_hours_of_gpus():
    assert _printed(print_schedule, SCHEDULE) == (
        "on 4 GPUs, 8 trials at once: 2 trials end after 17 min; no schedule ends before 15 min; "
        "idle 10 % of that time\n"
        "durations: 1 as measured for trials alike, 1 by their work; 2 h of GPUs\n"
    )


def test_print_schedule_unmeasured_says_its_unit():
    text = _printed(print_schedule, SCHEDULE | {"unit": "sft_steps", "gpu_hours": None})
    assert "end after 1000, in units of one SFT step;" in text
    assert " of GPUs" not in text


def test_print_demands_of_a_tiny_study_writes_no_power_of_ten():
    row = GpuDemand("tiny", "sft", 1, 64, False, memory=1, static=1, hours=7.875e-7)
    text = _printed(print_demands, [row])
    assert "under 1 s" in text and "e-7" not in text


def test_print_time_here_says_what_it_rests_on():
    found = TimeHere(3, 2, 2, 400.0, "matmul", flops=2e11, efficiency=0.15)
    assert _printed(print_time_here, found).replace("\n", " ") == (
        "no GPU here; on its 2 cores, 2 trials at once: about 6.7 min for 3 trials, by 200 Gflop/s "
        "of float32 matrix products measured here, of which trials are assumed to reach 15 % "
    )
    like = TimeHere(1, 2, 2, 5.0, "trials", tokens_per_second=177.4)
    assert "about 5 s for 1 trial, by the trials that finished in this store" in _printed(
        print_time_here, like
    )
    unknown = TimeHere(1, 2, 2, None, "matmul", flops=2e11, efficiency=0.15)
    assert "at once: unknown for 1 trial" in _printed(print_time_here, unknown)


def test_print_schedule_of_nothing_says_so():
    assert "nothing to train" in _printed(print_schedule, SCHEDULE | {"trials": []})


def test_print_examination_says_what_is_wrong_with_many_nodes_once():
    card = {"name": "NVIDIA H100", "memory": 85e9}
    seen = {"devices": [card] * 8, "driver": "570.86", "torch_cuda": "12.8"}
    nodes = [{"name": f"node-{i}", "facts": {"gpus": seen} if i < 2 else {}} for i in range(3)]
    fault = {"check": "scratch", "what": "1 MB is free at /[x]", "todo": "make room"}
    document = {
        "nodes": nodes,
        "faults": [fault | {"node": "node-0"}, fault | {"node": "node-1"}],
        "remarks": [fault | {"node": "node-2", "what": "20 GB are free"}],
    }
    cells = {node["name"]: {"gpus": "8", "scratch": "1 MB"} for node in nodes}
    text = _printed(print_examination, document, cells)
    assert [text.count(f" {node['name']} ") for node in nodes] == [3, 1, 1]
    assert "8 x NVIDIA H100, 85 GB, driver 570.86, CUDA 12.8: node-0 and node-1\n" in text
    assert "fault: scratch of node-0 and node-1: 1 MB is free at /[x]\n  to do: make room" in text
    assert "remark: scratch of node-2: 20 GB are free" in text
    assert text.endswith("2 nodes: 2 faults and 1 remark\n")
