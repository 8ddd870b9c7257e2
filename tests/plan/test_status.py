"""What became of every planned trial, out of what the store holds."""

from __future__ import annotations

import time

import pytest

from raylab.plan.status import attempt_rows, sample_rows, trial_rows
from raylab.plan.trials import plan_trials
from raylab.store.paths import Store
from raylab.store.records import (
    PROGRESS,
    SAMPLES,
    Attempt,
    Record,
    trial_key,
    write_attempt,
    write_json,
    write_record,
)
from raylab.store.tables import SCHEMAS
from tests.studies import make_inputs, make_study


@pytest.fixture
def planned(tmp_path):
    """(store, trials by recipe) of a study with chains, one seed."""
    study = make_study(seeds=[1])
    trials = plan_trials(study, make_inputs(study))
    return Store(str(tmp_path / "out")), {trial.variant.name: trial for trial in trials}


def statuses(store, trials):
    return {row["recipe"]: row["status"] for row in trial_rows(list(trials.values()), store)}


def fail(store, trial, number=1):
    attempt = Attempt(attempt=number, cause="error", message="it broke", seconds=1.0)
    write_attempt(store, trial.folder, attempt)


def seal(store, trial, **changes):
    values = {"data": {}, "evaluation": "x", "versions": {}, "metrics": {}, **changes}
    record = Record(name=trial.name, id=trial.id, identity=dict(trial.identity), **values)
    write_record(store, trial.folder, record)


def test_trial_rows_of_empty_store_are_all_pending_with_every_column(planned):
    store, trials = planned
    rows = trial_rows(list(trials.values()), store)
    assert {row["status"] for row in rows} == {"pending"}
    assert all(set(row) == set(SCHEMAS["trials"].names) for row in rows)


def test_trial_rows_after_a_failure_block_all_descendants_and_no_other(planned):
    store, trials = planned
    fail(store, trials["first"])
    found = statuses(store, trials)
    assert found == {
        "alone": "pending",
        "other": "pending",
        "first": "failed",
        "second": "blocked",
        "third": "blocked",
    }


@pytest.mark.parametrize(("age", "status"), [(1, "running"), (3600, "pending")])
def test_trial_rows_with_progress_run_while_it_is_fresh(planned, age, status):
    store, trials = planned
    progress = {"step": 3, "steps": 9, "time": time.time() - age}
    write_json(store, trial_key(trials["alone"].folder, PROGRESS), progress)
    assert statuses(store, trials)["alone"] == status


def test_trial_rows_with_record_are_done_whatever_failed_before(planned):
    store, trials = planned
    trial = trials["alone"]
    fail(store, trial)
    seal(store, trial, metrics={"l2": 1.5, "of_no_column": 3})
    row = next(r for r in trial_rows(list(trials.values()), store) if r["name"] == trial.name)
    assert (row["status"], row["l2"], row["attempts"]) == ("done", 1.5, 1)


def test_attempt_rows_come_in_the_order_of_attempts(planned):
    store, trials = planned
    for number in (10, 2, 1):
        fail(store, trials["alone"], number)
    assert [row["attempt"] for row in attempt_rows(trials.values(), store)] == [1, 2, 10]


@pytest.mark.parametrize("progress", [b"{", b"[]", b'{"time": 9e99}'])
def test_trial_rows_with_progress_that_is_damaged_are_still_there(planned, progress):
    store, trials = planned
    store.write(trial_key(trials["alone"].folder, PROGRESS), progress)
    assert statuses(store, trials)["alone"] in ("pending", "running")


def test_sample_rows_are_those_of_finished_trials(planned):
    store, trials = planned
    for name in ("alone", "first", "second"):
        text = b'{"prompt": "p", "answer": "a"}\n'
        store.write(trial_key(trials[name].folder, SAMPLES), text)
        seal(store, trials[name])
    store.write(trial_key(trials["first"].folder, SAMPLES), b'{"prompt": "ha')
    store.write(trial_key(trials["third"].folder, SAMPLES), b'{"prompt": "ha')
    store.delete(trial_key(trials["second"].folder, SAMPLES))
    assert [row["name"] for row in sample_rows(trials.values(), store)] == [trials["alone"].name]
