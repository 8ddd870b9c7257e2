"""The time left of a study's training, against numbers worked out by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raylab.plan.resources import trial_operations
from raylab.plan.time_left import TimeLeft, assumed_rate, time_left
from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.study_file import load_study

QUICK = Path(__file__).parents[2] / "jobs" / "demo" / "study-quick.yaml"

NOW = 1000.0


def row(name, status, **more):
    return {"name": name, "status": status, **more}


def training(name, begun, step, steps, left):
    numbers = {"step": step, "steps": steps, "seconds_left": left}
    return row(name, "running", phase=f"training {step}/{steps}", begun=NOW - begun, **numbers)


def estimates(*seconds, parents=None, in_seconds=True, slots=None):
    names = "abcdef"[: len(seconds)]
    known = dict.fromkeys(names) | (parents or {})
    return TimeLeft(dict(zip(names, seconds, strict=True)), known, in_seconds, slots)


def test_before_anything_runs_it_is_the_schedule_of_the_estimates():
    rows = [row(name, "pending") for name in "abc"]
    found = estimates(10.0, 20.0, 30.0, slots=lambda: 2)
    assert found.seconds(rows, NOW) == 30.0
    chained = estimates(10.0, 20.0, 30.0, parents={"b": "a", "c": "b"}, slots=lambda: 2)
    assert chained.seconds(rows, NOW) == 60.0


def test_what_trials_took_corrects_all_estimates():
    rows = [row("a", "done", seconds=30.0), row("b", "pending"), row("c", "pending")]
    assert estimates(10.0, 20.0, 5.0).seconds(rows, NOW) == pytest.approx(75.0)


def test_estimates_in_units_of_work_need_a_trial_at_work():
    rows = [row("a", "pending"), row("b", "pending")]
    found = estimates(4.0, 8.0, in_seconds=False)
    assert found.seconds(rows, NOW) is None
    rows[0] = row("a", "done", seconds=20.0)
    assert found.seconds(rows, NOW) == pytest.approx(40.0)


def test_the_steps_of_a_running_trial_correct_before_the_first_is_done():
    rows = [training("a", 30.0, 25, 100, 90.0), row("b", "pending")]
    # 30 s behind and 90 s ahead of what was estimated at 60 s: twice as long.
    assert estimates(60.0, 10.0).seconds(rows, NOW) == pytest.approx(90.0 + 20.0)


def test_a_running_trial_takes_at_least_what_it_reports():
    rows = [row("a", "done", seconds=10.0), training("b", 9.0, 1, 10, 81.0)]
    assert estimates(10.0, 10.0).seconds(rows, NOW) == 81.0


def test_a_running_trial_that_reports_nothing_has_the_rest_of_its_estimate():
    rows = [
        row("a", "done", seconds=10.0),
        row("b", "running", phase="answering 1/9", begun=NOW - 4.0),
    ]
    assert estimates(10.0, 10.0).seconds(rows, NOW) == pytest.approx(6.0)
    rows[1]["begun"] = NOW - 40.0
    assert estimates(10.0, 10.0).seconds(rows, NOW) is None


def test_a_trial_that_goes_on_from_a_checkpoint_is_not_counted_from_its_start():
    rows = [row("a", "done", seconds=100.0), training("b", 2.0, 90, 100, 10.0)]
    assert estimates(100.0, 100.0).seconds(rows, NOW) == pytest.approx(10.0)


def test_running_trials_keep_their_slots_whatever_waits():
    rows = [
        row("a", "running", phase="loading the model", begun=NOW),
        row("b", "pending"),
        row("c", "pending"),
    ]
    found = estimates(10.0, 20.0, 5.0, parents={"c": "b"}, slots=lambda: 1)
    assert found.seconds(rows, NOW) == 35.0


def test_more_running_trials_than_slots_run_at_once():
    rows = [row(name, "running", phase="x", begun=NOW) for name in "ab"]
    assert estimates(10.0, 20.0).seconds(rows, NOW) == 20.0


@pytest.mark.parametrize("status", ["done", "failed", "blocked"])
def test_an_ended_study_has_no_time_left(status):
    rows = [row("a", "done", seconds=5.0), row("b", status), row("merge", "pending")]
    assert estimates(10.0, 20.0).seconds(rows, NOW) is None


def test_a_trial_that_has_trained_keeps_correcting_until_it_is_done():
    rows = [
        row("a", "running", phase="answering 1/9", step=9, steps=9, begun=NOW - 40.0),
        row("b", "pending"),
    ]
    assert estimates(1000.0, 1000.0).seconds(rows, NOW) == pytest.approx(40.0)


def quick():
    study = load_study(QUICK)
    inputs = read_inputs(study)
    return study, inputs, plan_trials(study, inputs)


def test_estimates_of_a_study_without_a_rate_are_no_seconds():
    study, inputs, trials = quick()
    found = time_left(study, inputs, trials, {})
    assert not found.in_seconds
    assert found.parents == {trial.name: trial.parent for trial in trials}
    assert found.seconds([row(trial.name, "pending") for trial in trials], NOW) is None


def test_estimates_of_a_study_are_its_operations_at_the_rate():
    study, inputs, trials = quick()
    found = time_left(study, inputs, trials, {}, rate=1e9)
    assert found.in_seconds
    operations = trial_operations(study, inputs, trials)
    assert found.estimates == {name: count / 1e9 for name, count in operations.items()}


@pytest.mark.parametrize(("load", "is_known"), [(0.0, True), (1e6, False)])
def test_a_busy_machine_has_no_rate(monkeypatch, load, is_known):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    study = load_study(QUICK)
    assert (assumed_rate(study, on_gpus=False) is not None) == is_known
    assert assumed_rate(study, on_gpus=True) == 312e12 * 0.3 * study.resources.gpus
