from __future__ import annotations

import io

from rich.console import Console

from raylab.report.terminal.printing import (
    print_comparison_counts,
    print_left_out,
    print_norms,
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


def test_print_left_out_names_comparisons_that_were_not_measured():
    text = io.StringIO()
    done = {"comparison": "x~y", "status": "done", "message": None}
    left = {"comparison": "a~b", "status": "blocked", "message": "left out: a is marked (why)"}
    print_left_out([done, left], Console(file=text, width=120))
    assert text.getvalue() == "a~b not measured: left out: a is marked (why)\n"


def test_print_comparison_counts_names_what_was_not_measured_and_where_the_rest_is():
    done = [{"comparison": f"x~{i}", "status": "done", "message": None} for i in range(3)]
    left = [{"comparison": f"a~{i}", "status": "blocked", "message": "why"} for i in range(5)]
    text = io.StringIO()
    print_comparison_counts([*done, *left], "runs/x", Console(file=text, width=80))
    assert text.getvalue().splitlines() == [
        "3 comparisons measured: --verbose or `raylab table norms runs/x` lists their norms",
        "5 comparisons not measured: a~0, a~1, a~2 and 2 more: "
        "`raylab table comparisons runs/x` says why",
    ]


def test_print_comparison_counts_of_a_complete_study_is_one_line():
    text = io.StringIO()
    done = [{"comparison": "x~y", "status": "done", "message": None}]
    print_comparison_counts(done, "runs/x", Console(file=text, width=80))
    assert text.getvalue().startswith("1 comparison measured")
    assert text.getvalue().count("\n") == 1
