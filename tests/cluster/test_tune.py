"""What the driver keeps of a trial whose worker could not speak for itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raylab.cluster.tune import Witness
from raylab.plan.status import trial_rows
from raylab.plan.trials import plan_trials
from raylab.store.paths import Store
from raylab.store.records import Attempt, read_attempts, write_attempt
from tests.studies import make_inputs, make_study


@pytest.fixture
def planned(tmp_path):
    study = make_study(seeds=[1])
    return Store(str(tmp_path / "out")), plan_trials(study, make_inputs(study))


def lost(trial):
    return SimpleNamespace(trial_id=trial.id, get_error=lambda: RuntimeError("the actor died"))


def test_witness_of_a_silent_death_keeps_an_attempt(planned):
    store, trials = planned
    Witness(store, trials).on_trial_error(1, [], lost(trials[0]))
    row = trial_rows(trials, store)[0]
    assert (row["status"], row["cause"]) == ("failed", "error")
    assert "the actor died" in row["message"]


def test_witness_of_a_trial_that_spoke_adds_nothing(planned):
    store, trials = planned
    witness = Witness(store, trials)
    write_attempt(store, trials[0].folder, Attempt(attempt=1, cause="bad_data", message="said"))
    witness.on_trial_error(1, [], lost(trials[0]))
    assert [a.cause for a in read_attempts(store, trials[0].folder)] == ["bad_data"]


def test_witness_of_a_second_run_does_not_take_the_first_for_it(planned):
    store, trials = planned
    write_attempt(store, trials[0].folder, Attempt(attempt=1, cause="bad_data", message="said"))
    Witness(store, trials).on_trial_error(1, [], lost(trials[0]))
    assert [a.cause for a in read_attempts(store, trials[0].folder)] == ["bad_data", "error"]
