"""Tune's events as rows and lines."""

from __future__ import annotations

import pickle
import time
from types import SimpleNamespace

import pytest

from raylab.cluster.callbacks.progress import ProgressCallback
from raylab.plan.merges import plan_merges
from raylab.plan.trials import plan_trials
from raylab.store.filesystem import Store
from raylab.store.records import Attempt, write_attempt
from tests.studies import make_inputs, make_study

PROGRESS = {
    "phase": "training 12/90",
    "step": 12,
    "steps": 90,
    "loss": 1.23456,
    "tokens_per_second": 5231.4,
    "seconds_left": 80.2,
    "memory_bytes": None,
}


class RecordingDisplay:
    """A display that keeps everything."""

    def __init__(self):
        self.lines, self.transient, self.rows, self.closed = [], [], [], False

    def write_line(self, line, *, transient=False):
        (self.transient if transient else self.lines).append(line)

    def update(self, rows):
        self.rows = rows

    def close(self):
        self.closed = True


@pytest.fixture
def progress(tmp_path):
    """(callback, display, Tune's trials by recipe, the store, ends): `other` is cached."""
    study = make_study(seeds=[1])
    planned = plan_trials(study, make_inputs(study))
    store, display, ends = Store(str(tmp_path)), RecordingDisplay(), []
    to_run = [trial for trial in planned if trial.variant.name != "other"]
    callback = ProgressCallback(planned, to_run, store, lambda: ends.append(1), lambda: display)
    callback.setup()
    trials = {
        trial.variant.name: SimpleNamespace(
            trial_id=trial.id,
            config=trial.row,
            last_result=None,
            folder=trial.folder,
        )
        for trial in planned
    }
    return SimpleNamespace(
        callback=callback, display=display, trials=trials, store=store, ends=ends
    )


def send(progress, event, recipe, **info):
    getattr(progress.callback, f"on_trial_{event}")(1, [], progress.trials[recipe], **info)
    progress.callback.on_step_end(1, [])
    return next(row for row in progress.display.rows if row["recipe"] == recipe)


def test_progress_before_anything_shows_what_waits_and_what_is_done(progress):
    progress.callback.on_step_end(1, [])
    statuses = {row["recipe"]: row["status"] for row in progress.display.rows}
    assert statuses == {
        "alone": "pending",
        "first": "pending",
        "second": "pending",
        "third": "pending",
        "other": "done",
    }


def test_progress_of_a_trial_that_goes_well_says_its_lines(progress):
    send(progress, "start", "alone")
    row = send(progress, "result", "alone", result=PROGRESS)
    assert {key: row[key] for key in PROGRESS} == PROGRESS
    half = PROGRESS | {"phase": "training 45/90", "step": 45}
    send(progress, "result", "alone", result=half)
    progress.trials["alone"].last_result = {"seconds": 14.52, "l2": 8.5091, "step": 90}
    row = send(progress, "complete", "alone")
    assert row["status"] == "done"
    assert progress.display.transient == [
        "[1/5] tiny.alone.s1  starts",
        "[1/5] tiny.alone.s1  training 45/90  loss 1.235  5231 tokens/s  80 s left",
    ]
    assert progress.display.lines == ["[2/5] tiny.alone.s1  done in 14.5 s  L2 8.509"]
    assert progress.ends == [1]


def test_progress_says_each_quarter_of_an_attempt_once_and_shows_every_step(progress):
    for attempt in (1, 2):
        send(progress, "start", "alone")
        for step in range(1, 91):
            result = PROGRESS | {"phase": f"training {step}/90", "step": step}
            row = send(progress, "result", "alone", result=result)
            assert row["step"] == step
        said = [line.split()[2:4] for line in progress.display.transient if "training" in line]
        quarters = [["training", "23/90"], ["training", "45/90"], ["training", "68/90"]]
        assert said == quarters * attempt


def test_progress_keeps_when_an_attempt_began(progress):
    before = time.time()
    row = send(progress, "start", "alone")
    assert before <= row["begun"] <= time.time()


def test_progress_of_a_failure_blocks_descendants_and_takes_the_cause_from_the_store(progress):
    send(progress, "start", "first")
    attempt = Attempt(attempt=1, cause="non_finite", message="the loss is not finite")
    write_attempt(progress.store, progress.trials["first"].folder, attempt)
    row = send(progress, "error", "first")
    assert (row["status"], row["cause"], row["message"]) == (
        "failed",
        "non_finite",
        "the loss is not finite",
    )
    assert progress.display.lines == [
        "[1/5] tiny.first.s1  failed: non_finite; the trial table says why"
    ]
    blocked = {row["recipe"] for row in progress.display.rows if row["status"] == "blocked"}
    assert blocked == {"second", "third"}
    assert progress.ends == [1]


def test_progress_of_a_trial_whose_last_result_has_a_cause_counts_it_as_failed(progress):
    send(progress, "start", "first")
    progress.trials["first"].last_result = {"cause": "oom", "message": "no memory"}
    row = send(progress, "complete", "first")
    assert (row["status"], row["cause"]) == ("failed", "oom")
    assert progress.display.lines == ["[1/5] tiny.first.s1  failed: oom; the trial table says why"]
    assert "blocked" in {row["status"] for row in progress.display.rows}


def test_progress_of_a_retry_says_which_attempt_it_is_and_why(progress):
    send(progress, "start", "first")
    send(progress, "result", "first", result=PROGRESS)
    write_attempt(progress.store, progress.trials["first"].folder, Attempt(attempt=1, cause="oom"))
    row = send(progress, "recover", "first")
    assert (row["status"], row["loss"]) == ("pending", None)
    row = send(progress, "start", "first")
    assert (row["status"], row["attempt"], row["cause"]) == ("running", 2, "oom")
    assert progress.display.lines == [
        "[1/5] tiny.first.s1  lost its worker; it begins again from its checkpoint",
        "[1/5] tiny.first.s1  starts again after oom, attempt 2",
    ]


def test_progress_of_a_trial_that_goes_back_asks_the_store_why(progress):
    send(progress, "start", "first")
    send(progress, "result", "first", result=PROGRESS)
    write_attempt(progress.store, progress.trials["first"].folder, Attempt(attempt=1, cause="oom"))
    row = send(progress, "result", "first", result=PROGRESS | {"step": 14})
    assert row["attempt"] == 1
    row = send(progress, "result", "first", result=PROGRESS | {"step": 10})
    assert (row["attempt"], row["cause"]) == (2, "oom")


def test_progress_of_a_trial_that_was_stopped_counts_it_neither_as_done_nor_as_failed(progress):
    send(progress, "start", "first")
    progress.trials["first"].last_result = {
        "cause": "stopped",
        "message": "goes on from step 3 of 9",
    }
    row = send(progress, "complete", "first")
    assert row["status"] == "pending"
    assert progress.display.lines == ["[1/5] tiny.first.s1  stopped; it goes on from step 3 of 9"]
    assert "blocked" not in {row["status"] for row in progress.display.rows}


def test_progress_of_phases_around_the_training_has_no_line(progress):
    send(progress, "start", "alone")
    for phase in ("loading the model", "training 1/90", "training 2/90", "answering 0/4"):
        row = send(progress, "result", "alone", result=dict.fromkeys(PROGRESS) | {"phase": phase})
    assert row["phase"] == "answering 0/4"
    assert [line.partition("  ")[2] for line in progress.display.transient] == ["starts"]


def test_progress_of_a_trial_that_tune_ended_before_it_began_is_still_pending(progress):
    progress.callback.on_trial_complete(1, [], progress.trials["first"])
    progress.callback.on_step_end(1, [])
    assert {row["status"] for row in progress.display.rows} == {"pending", "done"}
    assert progress.display.lines == progress.ends == []


def test_progress_counts_merges_and_blocks_those_of_a_failed_trial(tmp_path):
    merges = {"both": {"method": "ties", "models": ["alone", "first"]}}
    study = make_study(seeds=[1], merges=merges)
    inputs = make_inputs(study)
    trials = plan_trials(study, inputs)
    planned = [*trials, *plan_merges(study, inputs, trials)]
    display = RecordingDisplay()
    callback = ProgressCallback(planned, planned, Store(str(tmp_path)), print, lambda: display)
    callback.setup()
    first = next(trial for trial in trials if trial.variant.name == "first")
    trial = SimpleNamespace(config=first.row, last_result={"cause": "oom"})
    callback.on_trial_start(1, [], trial)
    callback.on_trial_complete(1, [], trial)
    callback.on_step_end(1, [])
    assert display.lines == ["[0/6] tiny.first.s1  failed: oom; the trial table says why"]
    statuses = {row["recipe"]: row["status"] for row in display.rows}
    assert statuses["both"] == statuses["third"] == "blocked"
    assert statuses["alone"] == "pending"


def test_progress_takes_the_table_away_with_the_study(progress):
    progress.callback.on_experiment_end([])
    assert progress.display.closed


def test_progress_survives_pickling_as_tune_asks(progress, tmp_path):
    made = ProgressCallback([], [], Store(str(tmp_path)), print)
    pickle.dumps(made)


def test_progress_without_a_terminal_writes_lines_to_stderr(tmp_path, capsys):
    study = make_study(seeds=[1])
    planned = plan_trials(study, make_inputs(study))
    made = ProgressCallback(planned, planned, Store(str(tmp_path)), lambda: None)
    made.setup()
    made.on_trial_start(1, [], SimpleNamespace(config=planned[0].row))
    made.on_step_end(1, [])
    made.on_experiment_end([])
    assert capsys.readouterr().err == "[0/5] tiny.alone.s1  starts\n"
