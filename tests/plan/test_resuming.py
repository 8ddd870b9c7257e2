"""Trials with a checkpoint say where they go on, in the plan and in the tables."""

from __future__ import annotations

import pytest

from raylab.plan.cache import plan_states
from raylab.plan.resuming import checkpoint_texts, with_checkpoints
from raylab.plan.trials import plan_trials
from raylab.results.table_rows import read_results, trial_rows
from raylab.store.checkpoints import LATEST, Latest, checkpoint_key
from raylab.store.filesystem import Store
from raylab.store.records import Attempt, write_attempt, write_json
from tests.studies import make_inputs, make_study


@pytest.fixture
def planned(tmp_path):
    """(store, trials by recipe); `alone` has a checkpoint of step 12."""
    study = make_study(seeds=[1])
    trials = {t.variant.name: t for t in plan_trials(study, make_inputs(study))}
    store = Store(str(tmp_path / "out"))
    keep(store, trials["alone"])
    return store, trials


def keep(store, trial, **changes):
    size = trial.variant.training.batch_size
    values = {"trial_id": trial.id, "step": 12, "steps": 90, "micro_batch": size, "files": {}}
    latest = Latest(**{**values, **changes})
    write_json(store, checkpoint_key(trial.folder, LATEST), latest.model_dump())


def test_plan_and_table_of_a_trial_with_a_checkpoint_say_where_it_goes_on(planned):
    store, trials = planned
    states = with_checkpoints(plan_states(list(trials.values()), {}), store)
    said = {item.trial.variant.name: (item.state, item.why) for item in states}
    assert said["alone"] == ("to run", "goes on from step 12 of 90")
    assert said["first"] == ("to run", "new: no trial of this name in the store")
    assert said["other"][0] == "blocked"
    rows = {row["recipe"]: row for row in trial_rows(read_results([*trials.values()], store))}
    assert (rows["alone"]["status"], rows["alone"]["message"]) == (
        "pending",
        "goes on from step 12 of 90",
    )
    assert (rows["first"]["status"], rows["first"]["message"]) == ("pending", None)


@pytest.mark.parametrize("changes", [{"trial_id": "another"}, {"micro_batch": 1}])
def test_checkpoint_that_the_next_attempt_would_not_use_is_not_named(planned, changes):
    store, trials = planned
    keep(store, trials["alone"], **changes)
    assert checkpoint_texts(list(trials.values()), store) == {}


def test_checkpoint_of_the_micro_batch_before_memory_ran_out_is_not_named(planned):
    store, trials = planned
    write_attempt(store, trials["alone"].folder, Attempt(attempt=1, cause="oom", final=False))
    assert checkpoint_texts(list(trials.values()), store) == {}


def test_checkpoint_without_the_number_of_steps_names_its_own(planned):
    store, trials = planned
    keep(store, trials["alone"], steps=0)
    assert checkpoint_texts([trials["alone"]], store) == {
        trials["alone"].name: "goes on from step 12"
    }


def test_checkpoint_whose_description_is_damaged_is_not_named(planned):
    store, trials = planned
    store.write(checkpoint_key(trials["alone"].folder, LATEST), b'{"step": 3')
    assert checkpoint_texts(list(trials.values()), store) == {}
