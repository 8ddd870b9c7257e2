"""The table of a study in progress: it fits every window, and leaves nothing unsaid."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from raylab.report.terminal.live_table import live_table, totals

STATUSES = ("done", "running", "failed", "blocked", "pending")


def row(name, status, **more):
    return {"name": name, "status": status, "method": "sft", **more}


def running(name, **more):
    sight = {"phase": "training 12/90", "loss": 1.2345, "tokens_per_second": 5231.4}
    return row(name, "running", **{**sight, "seconds_left": 750.0, "memory_bytes": None, **more})


def drawn(rows, width=80, height=None, elapsed=None, left=None):
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height or 100, color_system=None)
    console.print(live_table(rows, width, height, elapsed, left=left))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


optional = st.none() | st.floats(0, 1e7)
rows_of_any_study = st.lists(
    st.builds(
        lambda number, status, loss, left, memory, cause, attempt: row(
            f"demo.dpo-d0-after-sft-d2.s{number}",
            status,
            **{"phase": f"training {number}/99999", "loss": loss, "tokens_per_second": loss},
            **{"seconds_left": left, "memory_bytes": memory, "cause": cause, "attempt": attempt},
        ),
        st.integers(0, 99999),
        st.sampled_from(STATUSES),
        optional,
        optional,
        st.none() | st.integers(0, 10**12),
        st.sampled_from([None, "oom", "non_finite"]),
        st.integers(1, 12),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(rows_of_any_study, st.integers(50, 150), st.integers(6, 50), optional)
def test_live_table_of_any_study_fits_any_window(rows, width, height, left):
    lines = drawn(rows, width, height, elapsed=3.0, left=left)
    assert len(lines) < height
    assert all(len(line) <= width for line in lines)
    counted = " ".join(lines)
    for status in STATUSES:
        amount = sum(item["status"] == status for item in rows)
        assert not amount or f"{amount} {status}" in counted


@settings(max_examples=40, deadline=None)
@given(rows_of_any_study, st.integers(50, 150))
def test_live_table_without_a_height_names_all_that_are_not_done(rows, width):
    text = "".join("".join(drawn(rows, width)).split())
    assert all(item["name"] in text for item in rows if item["status"] == "failed")
    shown = sum(item["status"] == "running" for item in rows)
    assert "more" not in text
    assert text.count("/99999") == shown


def test_live_table_at_80_columns_shows_a_whole_line_for_each_running_trial():
    lines = drawn([running("demo.dpo-d0-after-sft-d1.s42"), row("b", "pending")], 80, 24, 65.0)
    assert lines[0].split() == ["trial", "status", "loss", "tokens/s", "left", "memory"]
    cells = "demo.dpo-d0-after-sft-d1.s42 training 12/90 1.234 5231 12:30 –"
    assert lines[2].split() == cells.split()
    assert lines[3].strip() == "0 of 2 trials, 1:05 so far, at least 12:30 left"
    assert lines[4:] == ["2 trials: 1 running, 1 pending"]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_live_table_says_how_long_the_whole_study_takes_however_long_a_trial(width):
    rows = [running("a" * 20), row("b", "done"), row("c", "pending")]
    text = " ".join(" ".join(drawn(rows, width, 24, 65.0, 754.0)).split())
    assert "1 of 3 trials, 1:05 so far, about 13 min of training left" in text


def test_live_table_bar_is_the_part_of_the_trials_that_is_behind():
    rows = [row("a", "done"), row("b", "failed"), row("c", "pending"), row("d", "running")]
    rows[3] |= {"step": 50, "steps": 100, "phase": "training 50/100"}

    def filled(rows):
        (line,) = (line for line in drawn(rows, 140, 24) if "of 4 trials" in line)
        return line.count("━") + line.count("╸") / 2

    assert filled([row(name, "pending") for name in "abcd"]) == 0
    assert filled(rows[:2] + [row(name, "pending") for name in "cd"]) == 20
    assert 20 < filled(rows) < 30
    assert filled([row(name, "done") for name in "abcd"]) == 40


def test_live_table_of_a_low_window_counts_what_it_leaves_out():
    rows = [running(f"r{i}") for i in range(20)] + [
        row(f"f{i}", "failed", cause="oom", message="no [memory] left\nfound: 3") for i in range(9)
    ]
    lines = drawn(rows, 80, 14)
    assert lines[-1] == "29 trials: 20 running, 9 failed"
    (more,) = [int(m[1]) for line in lines if (m := re.match(r"… (\d+) more running", line))]
    assert more + sum(line.startswith("r") for line in lines) == 20
    (alike,) = [int(m[1]) for line in lines if (m := re.match(r"… (\d+) more like", line))]
    assert alike + sum(line.startswith("f") for line in lines) == 9
    assert "f0 failed: oom: no [memory] left" in lines


def test_live_table_of_a_retried_trial_says_why():
    (head, _, line, *_) = drawn([running("a", attempt=2, cause="oom")], 80, 24)
    assert head.split()[:3] == ["trial", "status", "attempt"]
    assert line.split()[:6] == ["a", "training", "12/90", "2", "after", "oom"]


def test_live_table_of_a_trial_shows_its_phase_and_the_drivers():
    rows = [running("a", phase="answering 8/32"), running("b", phase=None), row("c", "pending")]
    stream = io.StringIO()
    console = Console(file=stream, width=80, color_system=None)
    console.print(live_table(rows, 80, 24, phase="training trials 3/5, 0:10 so far"))
    lines = [line.split() for line in stream.getvalue().splitlines()]
    assert lines[2][:3] == ["a", "answering", "8/32"]
    assert lines[3][:2] == ["b", "running"]
    assert " ".join(lines[4]) == "training trials 3/5, 0:10 so far"


@pytest.mark.parametrize(
    ("left", "waiting", "said"),
    [
        ([750.0, 80.0], False, "12:30 of training left"),
        ([750.0, 80.0], True, "at least 12:30 left"),
        ([750.0, None], False, None),
        ([None, None], True, None),
        ([0.2, 0.0], True, None),
    ],
)
def test_live_table_says_no_time_left_that_is_not_known(left, waiting, said):
    rows = [running(f"r{i}", seconds_left=seconds) for i, seconds in enumerate(left)]
    rows += [row("w", "pending")] * waiting
    text = "\n".join(drawn(rows, 80, 24))
    words = text.partition("trials, ")[2]
    assert said in words if said else "left" not in words


def test_live_table_of_a_silent_trial_says_for_how_long():
    lines = drawn([row("a", "pending", heard_seconds=3700.0)], 80, 24)
    assert lines[0] == "a stopped: no sign of life for 1:01:40"


def test_live_table_heard_is_a_column_where_it_is_known():
    lines = drawn([running("a", heard_seconds=4.2)], 80, 24)
    assert lines[0].endswith("heard")
    assert lines[2].endswith("0:04 ago")


def test_totals_count_finished_models_apart_from_merges():
    rows = [
        row("a", "done"),
        row("b", "pending", kind="finished model"),
        row("c", "done", method="ties"),
        row("d", "done", method="ties", kind="finished model"),
    ]
    counted = "1 trial, 1 merge and 2 finished models: 3 done, 1 pending"
    assert totals(rows) == counted


def test_totals_of_no_trials_says_so():
    assert totals([]) == "0 trials"
