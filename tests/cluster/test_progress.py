"""Tune's events as rows and lines."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest

from raylab.cluster.callbacks.progress import Narrator, narrator
from raylab.plan.trials import plan_trials
from raylab.store.filesystem import Store
from raylab.store.records import Attempt, write_attempt
from tests.studies import make_inputs, make_study

PROGRESS = {
    "step": 12,
    "steps": 90,
    "loss": 1.23456,
    "tokens_per_second": 5231.4,
    "seconds_left": 80.2,
    "memory_bytes": None,
}


class Heard:
    """An outlet that remembers."""

    def __init__(self):
        self.lines, self.passing, self.rows, self.closed = [], [], [], False

    def say(self, line, *, passing=False):
        (self.passing if passing else self.lines).append(line)

    def show(self, rows):
        self.rows = rows

    def close(self):
        self.closed = True


@pytest.fixture
def told(tmp_path):
    """(narrator, what was heard, Tune's trials by recipe, the store, ends): `other` is cached."""
    study = make_study(seeds=[1])
    planned = plan_trials(study, make_inputs(study))
    store, heard, ends = Store(str(tmp_path)), Heard(), []
    to_run = [trial for trial in planned if trial.variant.name != "other"]
    callback = Narrator(planned, to_run, store, lambda: ends.append(1), lambda: heard)
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
    return SimpleNamespace(callback=callback, heard=heard, trials=trials, store=store, ends=ends)


def tell(told, event, recipe, **info):
    getattr(told.callback, f"on_trial_{event}")(1, [], told.trials[recipe], **info)
    told.callback.on_step_end(1, [])
    return next(row for row in told.heard.rows if row["recipe"] == recipe)


def test_narrator_before_anything_shows_what_waits_and_what_is_done(told):
    told.callback.on_step_end(1, [])
    statuses = {row["recipe"]: row["status"] for row in told.heard.rows}
    assert statuses == {
        "alone": "pending",
        "first": "pending",
        "second": "pending",
        "third": "pending",
        "other": "done",
    }


def test_narrator_of_a_trial_that_goes_well_says_its_lines(told):
    tell(told, "start", "alone")
    row = tell(told, "result", "alone", result=PROGRESS)
    assert {key: row[key] for key in PROGRESS} == PROGRESS
    told.trials["alone"].last_result = {"seconds": 14.52, "l2": 8.5091, "step": 90}
    row = tell(told, "complete", "alone")
    assert row["status"] == "done"
    assert told.heard.passing == [
        "[1/5] tiny.alone.s1  starts",
        "[1/5] tiny.alone.s1  step 12/90  loss 1.235  5231 tokens/s  80 s left",
    ]
    assert told.heard.lines == ["[2/5] tiny.alone.s1  done in 14.5 s  L2 8.509"]
    assert told.ends == [1]


def test_narrator_says_progress_seldom_and_shows_it_always(told):
    tell(told, "result", "alone", result=PROGRESS)
    row = tell(told, "result", "alone", result=PROGRESS | {"step": 13})
    assert row["step"] == 13
    assert len(told.heard.passing) == 1


def test_narrator_of_a_failure_blocks_descendants_and_takes_the_cause_from_the_store(told):
    tell(told, "start", "first")
    attempt = Attempt(attempt=1, cause="non_finite", message="the loss is not finite")
    write_attempt(told.store, told.trials["first"].folder, attempt)
    row = tell(told, "error", "first")
    assert (row["status"], row["cause"], row["message"]) == (
        "failed",
        "non_finite",
        "the loss is not finite",
    )
    assert told.heard.lines == ["[1/5] tiny.first.s1  failed: non_finite; the trial table says why"]
    blocked = {row["recipe"] for row in told.heard.rows if row["status"] == "blocked"}
    assert blocked == {"second", "third"}
    assert told.ends == [1]


def test_narrator_of_a_trial_whose_last_result_has_a_cause_counts_it_as_failed(told):
    tell(told, "start", "first")
    told.trials["first"].last_result = {"cause": "oom", "message": "no memory"}
    row = tell(told, "complete", "first")
    assert (row["status"], row["cause"]) == ("failed", "oom")
    assert told.heard.lines == ["[1/5] tiny.first.s1  failed: oom; the trial table says why"]
    assert "blocked" in {row["status"] for row in told.heard.rows}


def test_narrator_of_a_retry_says_which_attempt_it_is_and_why(told):
    tell(told, "start", "first")
    tell(told, "result", "first", result=PROGRESS)
    write_attempt(told.store, told.trials["first"].folder, Attempt(attempt=1, cause="oom"))
    row = tell(told, "recover", "first")
    assert (row["status"], row["loss"]) == ("pending", None)
    row = tell(told, "start", "first")
    assert (row["status"], row["attempt"], row["cause"]) == ("running", 2, "oom")
    assert told.heard.lines == [
        "[1/5] tiny.first.s1  lost its worker; it begins again from its checkpoint",
        "[1/5] tiny.first.s1  starts again after oom, attempt 2",
    ]


def test_narrator_of_a_trial_that_goes_back_asks_the_store_why(told):
    tell(told, "start", "first")
    tell(told, "result", "first", result=PROGRESS)
    write_attempt(told.store, told.trials["first"].folder, Attempt(attempt=1, cause="oom"))
    row = tell(told, "result", "first", result=PROGRESS | {"step": 14})
    assert row["attempt"] == 1
    row = tell(told, "result", "first", result=PROGRESS | {"step": 10})
    assert (row["attempt"], row["cause"]) == (2, "oom")


def test_narrator_of_a_trial_that_was_stopped_counts_it_neither_as_done_nor_as_failed(told):
    tell(told, "start", "first")
    told.trials["first"].last_result = {"cause": "stopped"}
    row = tell(told, "complete", "first")
    assert row["status"] == "pending"
    assert told.heard.lines == ["[1/5] tiny.first.s1  stopped; it goes on from its checkpoint"]
    assert "blocked" not in {row["status"] for row in told.heard.rows}


def test_narrator_takes_the_table_away_with_the_study(told):
    told.callback.on_experiment_end([])
    assert told.heard.closed


def test_narrator_survives_pickling_as_tune_asks(told, tmp_path):
    made = narrator([], [], Store(str(tmp_path)), print)
    pickle.dumps(made)


def test_narrator_without_a_terminal_writes_lines_to_stderr(tmp_path, capsys):
    study = make_study(seeds=[1])
    planned = plan_trials(study, make_inputs(study))
    made = narrator(planned, planned, Store(str(tmp_path)), lambda: None)
    made.setup()
    made.on_trial_start(1, [], SimpleNamespace(config=planned[0].row))
    made.on_step_end(1, [])
    made.on_experiment_end([])
    assert capsys.readouterr().err == "[0/5] tiny.alone.s1  starts\n"
