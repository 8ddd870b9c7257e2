"""The rows of the trials table and of the tables beside it, from a store."""

from __future__ import annotations

import io
import time

import pyarrow as pa
import pytest
from pyarrow import parquet

from raylab.plan.finished_parents import plan_finished_parents
from raylab.plan.trials import plan_trials
from raylab.results.table_rows import (
    attempt_rows,
    live_rows,
    path_rows,
    read_results,
    sample_rows,
    trial_rows,
)
from raylab.spec.models import ResolvedModel
from raylab.store.attempt_state import RUNNING, RunningAttempt, write_progress
from raylab.store.filesystem import Store
from raylab.store.lease import LEASE
from raylab.store.phase import Phase
from raylab.store.records import (
    PATHS,
    PROGRESS,
    SAMPLES,
    Attempt,
    Record,
    trial_key,
    write_attempt,
    write_json,
    write_record,
)
from raylab.store.schemas import SCHEMAS
from tests.studies import make_inputs, make_study


@pytest.fixture
def planned(tmp_path):
    """(store, trials by recipe) of a study with chains, one seed."""
    study = make_study(seeds=[1])
    trials = plan_trials(study, make_inputs(study))
    return Store(str(tmp_path / "out")), {trial.variant.name: trial for trial in trials}


def results_of(store, trials):
    return read_results(list(trials.values()), store)


def statuses(store, trials):
    return {row["recipe"]: row["status"] for row in trial_rows(results_of(store, trials))}


def fail(store, trial, number=1):
    attempt = Attempt(attempt=number, cause="error", message="it broke", seconds=1.0)
    write_attempt(store, trial.folder, attempt)


def finish(store, trial, **changes):
    values = {"data": {}, "evaluation": "x", "versions": {}, "metrics": {}, **changes}
    record = Record(name=trial.name, id=trial.id, identity=dict(trial.identity), **values)
    write_record(store, trial.folder, record)


def test_trial_rows_of_empty_store_are_all_pending_with_every_column(planned):
    store, trials = planned
    rows = trial_rows(results_of(store, trials))
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
    finish(store, trial, metrics={"l2": 1.5, "of_no_column": 3})
    row = next(r for r in trial_rows(results_of(store, trials)) if r["name"] == trial.name)
    assert (row["status"], row["l2"], row["attempts"]) == ("done", 1.5, 1)


PROGRESS_VALUES = {
    "step": 3,
    "steps": 9,
    "loss": 0.5,
    "tokens_per_second": 100.0,
    "seconds_left": 7.0,
    "memory_bytes": 12,
}


def report_progress(store, trial, age=1.0):
    progress = {**PROGRESS_VALUES, "time": time.time() - age}
    write_json(store, trial_key(trial.folder, PROGRESS), progress)


def live(store, trials, recipe):
    return next(row for row in live_rows(results_of(store, trials)) if row["recipe"] == recipe)


def test_live_rows_of_a_running_trial_carry_its_progress_and_its_age(planned):
    store, trials = planned
    report_progress(store, trials["alone"], age=20)
    row = live(store, trials, "alone")
    assert {key: row[key] for key in PROGRESS_VALUES} == PROGRESS_VALUES
    assert (row["status"], row["attempt"], row["cause"]) == ("running", 1, None)
    assert 20 <= row["heard_seconds"] < 30


def start(store, trial, attempt=1, age=0.0):
    running = RunningAttempt(attempt=attempt, node="here", started=time.time() - age, oom_kills=0)
    write_json(store, trial_key(trial.folder, RUNNING), running.model_dump())


@pytest.mark.parametrize(("driven", "status"), [(True, "running"), (False, "pending")])
def test_live_rows_of_a_silent_trial_say_since_when_and_trust_its_driver(planned, driven, status):
    store, trials = planned
    start(store, trials["alone"], age=7200)
    report_progress(store, trials["alone"], age=3600)
    if driven:
        store.write(LEASE, b"{}")
    row = live(store, trials, "alone")
    assert row["status"] == status
    assert 3600 <= row["heard_seconds"] < 3700
    assert live(store, trials, "first")["heard_seconds"] is None


def test_live_rows_of_a_trial_that_loads_its_model_say_that_it_runs(planned):
    store, trials = planned
    start(store, trials["alone"])
    row = live(store, trials, "alone")
    assert (row["status"], row["step"], row["message"]) == ("running", None, "has begun")
    assert row["heard_seconds"] < 30


def test_live_rows_of_a_retried_trial_run_again_with_the_cause_of_before(planned):
    store, trials = planned
    fail(store, trials["first"])
    start(store, trials["first"], attempt=2)
    row = live(store, trials, "first")
    assert (row["status"], row["attempt"], row["cause"]) == ("running", 2, "error")
    assert statuses(store, trials)["second"] == "pending"


@pytest.mark.parametrize("age", [1, 3600])
def test_trial_rows_with_progress_of_an_attempt_that_failed_stay_failed(planned, age):
    store, trials = planned
    fail(store, trials["first"])
    report_progress(store, trials["first"], age=age)
    assert statuses(store, trials)["first"] == "failed"


def test_live_rows_have_the_same_keys_whatever_became_of_a_trial(planned):
    store, trials = planned
    report_progress(store, trials["alone"])
    fail(store, trials["first"])
    assert len({frozenset(row) for row in live_rows(results_of(store, trials))}) == 1


def test_live_rows_show_finished_models_that_are_asked_and_the_trials_table_does_not(tmp_path):
    given = {"path": "x", "base_model": "tiny", "method": "sft", "data": "D1"}
    study = make_study(
        seeds=[1],
        held_out=0.5,
        models={"busy": {**given, "seed": 7}, "done": given, "waits": given, "broken": given},
        merges={"all": {"method": "linear", "models": ["busy", "done", "waits", "broken"]}},
    )
    inputs, store = make_inputs(study), Store(str(tmp_path / "out"))
    for name in study.models:
        inputs.models[name] = ResolvedModel(name, f"content:{name}", None, name)
    models = {model.name: model for model in plan_finished_parents(study, inputs)}
    report_progress(store, models["busy"])
    fail(store, models["broken"])
    finish(store, models["done"])
    trials = plan_trials(study, inputs)
    results = read_results([*trials, *models.values()], store)
    rows = {row["name"]: row for row in live_rows(results) if row["kind"] != "trial"}
    assert {name: (row["kind"], row["status"]) for name, row in rows.items()} == {
        "busy": ("finished model", "running"),
        "done": ("finished model", "done"),
        "waits": ("finished model", "pending"),
        "broken": ("finished model", "failed"),
    }
    busy = {key: rows["busy"][key] for key in ("step", "seed", "model", "data", "adapter")}
    assert busy == {"step": 3, "seed": 7, "model": "tiny", "data": "D1", "adapter": None}
    assert (rows["broken"]["cause"], rows["broken"]["message"]) == ("error", "it broke")
    assert len({frozenset(row) for row in live_rows(results)}) == 1
    assert [row["name"] for row in trial_rows(results)] == [trial.name for trial in trials]


def test_attempt_rows_come_in_the_order_of_attempts(planned):
    store, trials = planned
    for number in (10, 2, 1):
        fail(store, trials["alone"], number)
    assert [row["attempt"] for row in attempt_rows(results_of(store, trials))] == [
        1,
        2,
        10,
    ]


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
        finish(store, trials[name])
    store.write(trial_key(trials["first"].folder, SAMPLES), b'{"prompt": "ha')
    store.write(trial_key(trials["third"].folder, SAMPLES), b'{"prompt": "ha')
    store.delete(trial_key(trials["second"].folder, SAMPLES))
    assert [row["name"] for row in sample_rows(results_of(store, trials))] == [trials["alone"].name]


def test_path_rows_are_those_of_finished_trials_that_recorded_any(planned):
    store, trials = planned
    row = {"step": 3, "layer": "model.layers.0", "norm": 0.5, "turn": None, "sketch": [1.0, -2.0]}
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist([row, row]), buffer)
    for name in ("alone", "third"):
        store.write(trial_key(trials[name].folder, PATHS), buffer.getvalue())
    for name in ("alone", "first"):
        finish(store, trials[name])
    named = {"trial_id": trials["alone"].id, "name": trials["alone"].name}
    assert list(path_rows(results_of(store, trials))) == [{**named, **row}] * 2


def test_live_rows_of_a_trial_at_work_name_its_phase(planned):
    store, trials = planned
    start(store, trials["alone"])
    phase = Phase("answering", time.time(), 8, 32)
    write_progress(store, trials["alone"].folder, phase.document)
    row = live(store, trials, "alone")
    assert (row["status"], row["phase"], row["message"]) == (
        "running",
        "answering 8/32",
        "answering 8/32",
    )


def test_sample_rows_of_answers_that_went_away_since_leave_them_out(planned):
    store, trials = planned
    key = trial_key(trials["alone"].folder, SAMPLES)
    store.write(key, b'{"prompt": "p", "answer": "a"}\n')
    finish(store, trials["alone"])
    results = results_of(store, trials)
    assert len(list(sample_rows(results))) == 1
    store.delete(key)
    assert list(sample_rows(results)) == []
