"""cached, to run, blocked; and why."""

from raylab.plan.cache import plan_states
from raylab.plan.trials import plan_trials
from raylab.store.records import Record
from tests.studies import make_inputs, make_study


def planned(**changes):
    study = make_study(seeds=[1], **changes)
    return plan_trials(study, make_inputs(study))


def record_of(trial):
    return Record(
        name=trial.name, id=trial.id, identity=dict(trial.identity), data={}, evaluation="e",
        versions={}, metrics={},
    )  # fmt: skip


def states(trials, done):
    records = {trial.id: record_of(trial) for trial in done}
    return {item.trial.variant.name: item for item in plan_states(trials, records)}


def words(found):
    return {name: item.state for name, item in found.items()}


def test_states_empty_store_runs_roots_and_blocks_children():
    found = states(planned(), [])
    assert words(found) == {
        "alone": "to run", "first": "to run",
        "second": "blocked", "third": "blocked", "other": "blocked",
    }  # fmt: skip
    assert "no trial of this name" in found["first"].why
    assert "tiny.second.s1" in found["third"].why


def test_states_all_done_are_cached():
    trials = planned()
    assert set(words(states(trials, trials)).values()) == {"cached"}


def test_states_parent_done_child_is_to_run():
    trials = planned()
    found = words(states(trials, [t for t in trials if t.variant.name == "first"]))
    assert (found["first"], found["second"], found["third"]) == ("cached", "to run", "blocked")


def test_states_child_done_without_parent_is_cached():
    trials = planned()
    found = words(states(trials, [t for t in trials if t.variant.name == "third"]))
    assert (found["second"], found["third"]) == ("blocked", "cached")


def test_states_changed_field_is_named():
    found = states(planned(training={"learning_rate": 1e-4}), planned())
    assert found["first"].why == "new: training.learning_rate: 1e-5 -> 1e-4"
    assert "parent:" in found["second"].why


def test_states_why_is_against_the_record_that_differs_least():
    far = planned(training={"learning_rate": 1e-3, "epochs": 9, "batch_size": 7})
    near = planned(training={"epochs": 4})
    for done in ([*far, *near], [*near, *far]):
        assert states(planned(), done)["first"].why == "new: training.epochs: 4 -> 3"


def test_states_order_is_that_of_trials():
    trials = planned()
    records = {trials[0].id: record_of(trials[0])}
    assert [item.trial for item in plan_states(trials, records)] == trials


def test_states_changed_sweep_says_which_value_took_the_place_of_which():
    def swept(rates):
        recipe = {"method": "sft", "data": "D0", "sweep": {"learning_rate": rates}}
        study = make_study(recipes={"sft": recipe}, seeds=[1, {"init": 2, "order": 3}])
        return plan_trials(study, make_inputs(study))

    found = plan_states(
        swept([3e-4, 2e-3, 1e-5]), {t.id: record_of(t) for t in swept([1e-4, 1e-3, 1e-5])}
    )
    why = {item.trial.name: item.why for item in found}
    assert why == {
        f"tiny.sft.learning_rate={new}.s{seed}": old and (
            f"new in place of tiny.sft.learning_rate={old}.s{seed}: "
            f"training.learning_rate: {old} -> {new}"
        )
        for new, old in (("3e-4", "1e-4"), ("0.002", "0.001"), ("1e-5", ""))
        for seed in ("1", "2o3")
    }  # fmt: skip


def test_states_sweep_put_into_a_recipe_names_what_it_was():
    def planned_with(**changes):
        study = make_study(recipes={"sft": {"method": "sft", "data": "D0", **changes}}, seeds=[1])
        return plan_trials(study, make_inputs(study))

    (before,) = planned_with()
    (item,) = plan_states(
        planned_with(sweep={"learning_rate": [1e-4]}), {before.id: record_of(before)}
    )
    assert item.why == "new in place of tiny.sft.s1: training.learning_rate: 1e-5 -> 1e-4"
