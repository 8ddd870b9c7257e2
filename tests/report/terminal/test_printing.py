from __future__ import annotations

import io

from rich.console import Console

from raylab.report.terminal.printing import (
    print_examination,
    print_left_out,
    print_norms,
    print_schedule,
    print_trials,
)
from raylab.store.tables import rows_of, to_table
from tests.report.conftest import fail, make_norms, make_trials, name_of


def _printed(show, name, rows) -> str:
    stream = io.StringIO()
    show(rows_of(to_table(name, rows)), Console(file=stream, width=100, color_system=None))
    return stream.getvalue()


def test_print_trials_wide_values_fit_a_hundred_columns():
    trials = make_trials()
    trials[0] |= {"seconds": 123456.7, "train_loss": 1.2364e-9, "l2": -1.5e12}

    text = _printed(print_trials, "trials", trials)

    table = [line for line in text.splitlines() if "done" in line and "trials:" not in line]
    assert len(table) == 22
    assert all(len(line) <= 100 for line in table)
    assert all(value in text for value in ("123,457", "1.236e-9", "-1.500e12"))
    assert "…" not in text


def test_print_trials_failed_trial_says_cause_and_message():
    trials = make_trials()
    fail(trials, name_of("sft-d2", 100), "failed", "oom", "no [memory] left")

    text = _printed(print_trials, "trials", trials)

    assert "22 trials: 21 done, 1 failed" in text
    assert f"{name_of('sft-d2', 100)} failed: oom: no [memory] left" in text


def test_print_trials_without_rows_says_so():
    assert "0 trials" in _printed(print_trials, "trials", [])


def test_print_norms_all_level_rows_are_shown_whole():
    norms = make_norms()

    text = _printed(print_norms, "norms", norms)

    assert text.count("6,979,321,856") == 10
    assert "2.859e6" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert f"10 comparisons; {len(norms) - 10} rows by layer" in text


SCHEDULE = {
    "gpus": 4,
    "slots": 8,
    "unit": "seconds",
    "measured": 1,
    "work": 7200.0,
    "makespan": 1000.0,
    "bound": 900.0,
    "idle": 0.1,
    "gpu_hours": 1.0,
    "trials": [{"name": "a"}, {"name": "b"}],
}


def _said(show, *values) -> str:
    stream = io.StringIO()
    show(*values, Console(file=stream, width=112, color_system=None))
    return stream.getvalue()


def test_print_schedule_measured_says_seconds_and_gpu_hours():
    assert _said(print_schedule, SCHEDULE) == (
        "on 4 GPUs, 8 trials at once: 2 trials end after 1000 s; no schedule ends before 900.0; "
        "idle 10 % of that time\n"
        "durations: 1 as measured for trials alike, 1 by their work; 1.000 GPU-hours\n"
    )


def test_print_schedule_unmeasured_says_its_unit():
    text = _said(print_schedule, SCHEDULE | {"unit": "sft_steps", "gpu_hours": None})
    assert "end after 1000, in units of one SFT step;" in text
    assert "hours" not in text


def test_print_schedule_of_nothing_says_so():
    assert "nothing to train" in _said(print_schedule, SCHEDULE | {"trials": []})


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
    text = _said(print_examination, document, cells)
    assert [text.count(f" {node['name']} ") for node in nodes] == [3, 1, 1]
    assert "8 x NVIDIA H100, 85 GB, driver 570.86, CUDA 12.8: node-0 and node-1\n" in text
    assert "fault: scratch of node-0 and node-1: 1 MB is free at /[x]\n  to do: make room" in text
    assert "remark: scratch of node-2: 20 GB are free" in text
    assert text.endswith("2 nodes: 2 faults and 1 remark\n")


def test_print_left_out_names_comparisons_that_were_not_measured():
    text = io.StringIO()
    done = {"comparison": "x~y", "status": "done", "message": None}
    left = {"comparison": "a~b", "status": "blocked", "message": "left out: a is marked (why)"}
    print_left_out([done, left], Console(file=text, width=120))
    assert text.getvalue() == "a~b not measured: left out: a is marked (why)\n"
