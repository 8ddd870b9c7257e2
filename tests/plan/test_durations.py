"""How long trials will take, out of records of trials alike or of their work."""

from __future__ import annotations

import pytest

from raylab.plan.durations import estimate_durations
from raylab.plan.trials import plan_trials
from raylab.spec.data.rows import is_held_out
from raylab.store.records import Record
from tests.studies import D0, make_inputs, make_study

TRAINED = sum(not is_held_out(prompt, 0.1) for prompt, _ in D0)


def planned(**changes):
    """(study, inputs, trials by name)."""
    study = make_study(**changes)
    inputs = make_inputs(study)
    return study, inputs, {trial.name: trial for trial in plan_trials(study, inputs)}


def record_of(trial, seconds, steps=18):
    return Record(
        name=trial.name,
        id=trial.id,
        identity=dict(trial.identity),
        data={},
        evaluation="x",
        versions={},
        metrics={"seconds": seconds, "steps": steps},
    )


def durations(study, inputs, trials, *records):
    return estimate_durations(
        study, inputs.rows, list(trials.values()), {record.id: record for record in records}
    )


def test_estimate_of_empty_store_counts_sft_steps_and_dpo_twice():
    study, inputs, trials = planned(seeds=[1])
    found = durations(study, inputs, trials)
    assert (found.unit, found.measured) == ("sft_steps", 0)
    assert found.by_name["tiny.alone.s1"] == TRAINED * 3 / 2
    assert found.by_name["tiny.first.s1"] == 2 * TRAINED * 3 / 2
    assert found.by_name["tiny.other.s1"] == 2 * TRAINED * 3 / 2


def test_estimate_of_other_batch_size_is_the_same_work():
    recipes = {
        name: {"method": "sft", "data": "D0", "training": {"batch_size": size}}
        for name, size in (("small", 2), ("large", 8))
    }
    study, inputs, trials = planned(seeds=[1], recipes=recipes)
    found = durations(study, inputs, trials).by_name
    assert found["tiny.small.s1"] == found["tiny.large.s1"] == TRAINED * 3 / 2


def test_estimate_of_another_seed_or_rate_is_the_median_of_trials_alike():
    recipes = {
        "sft": {"method": "sft", "data": "D0", "sweep": {"learning_rate": [1e-5, 1e-4]}},
        "longer": {"method": "sft", "data": "D0", "training": {"epochs": 6}},
    }
    mixed = {"init": 1, "order": 2}
    study, inputs, trials = planned(seeds=[1, mixed], recipes=recipes)
    names = [name for name in trials if "sft" in name]
    pairs = zip(names[:3], (9, 7, 50), strict=True)
    done = [record_of(trials[name], seconds) for name, seconds in pairs]
    found = durations(study, inputs, trials, *done)
    assert found.unit == "seconds"
    assert found.by_name[names[3]] == 9
    assert [found.by_name[name] for name in names[:3]] == [0, 0, 0]
    assert found.measured == 4
    # Its kind was measured: 9 s for 18 steps, and it takes twice as many epochs.
    assert found.by_name["tiny.longer.s1"] == pytest.approx(TRAINED * 6 / 2 * 9 / 18)


def test_estimate_of_another_method_goes_by_passes():
    study, inputs, trials = planned(seeds=[1])
    found = durations(study, inputs, trials, record_of(trials["tiny.alone.s1"], 36.0))
    assert found.by_name["tiny.other.s1"] == pytest.approx(2 * TRAINED * 3 / 2 * 36 / 18)
    again = durations(
        study,
        inputs,
        trials,
        record_of(trials["tiny.alone.s1"], 36.0),
        record_of(trials["tiny.second.s1"], 50.0),
    )
    assert again.by_name["tiny.other.s1"] == pytest.approx(TRAINED * 3 / 2 * 50 / 18)


def test_estimate_of_another_base_model_borrows_its_seconds():
    models = {"tiny": {"path": "base"}, "large": {"path": "large"}}
    study, inputs, trials = planned(seeds=[1], base_models=models)
    found = durations(study, inputs, trials, record_of(trials["tiny.alone.s1"], 36.0))
    assert found.by_name["large.alone.s1"] == pytest.approx(TRAINED * 3 / 2 * 36 / 18)
    assert found.measured == 1


def test_estimate_ignores_records_of_merges_and_without_steps():
    study, inputs, trials = planned(seeds=[1])
    merge = record_of(trials["tiny.alone.s1"], 5.0).model_copy(
        update={"id": "f" * 16, "identity": {"format": 1, "merge.method": "ties"}}
    )
    silent = record_of(trials["tiny.first.s1"], 5.0, steps=0)
    assert durations(study, inputs, trials, merge, silent).unit == "sft_steps"
