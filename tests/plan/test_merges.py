"""Merges: where they are made, an id that moves with what determines them alone, their rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylab.plan.cache import plan_states
from raylab.plan.comparisons import plan_comparisons, plan_models
from raylab.plan.merges import plan_merges
from raylab.plan.trials import plan_trials
from raylab.results.table_rows import read_results, trial_rows
from raylab.spec.models import ResolvedModel
from raylab.spec.validation import check_references
from raylab.store.filesystem import Store
from raylab.store.records import Attempt, Record, trial_key, write_attempt, write_record
from raylab.store.tables import to_table
from tests.studies import CHAIN, D0, D1, make_inputs, make_study

TIES = {"method": "ties", "models": ["alone", "second"]}
# Another valid value for every field that DARE and TIES have.
CHANGES = [
    {"method": "task_arithmetic"},
    {"models": ["second", "alone"]},
    {"models": ["alone", "first"]},
    {"models": ["alone", "second", "alone"]},
    {"weights": [1, 0.5]},
    {"density": 0.3},
    {"density": [0.2, 0.3]},
    {"scope": "tensor"},
    {"lambda": 0.5},
    {"method": "dare_ties"},
    {"method": "dare_ties", "seed": 1},
]


def planned(merge=None, content="content:aa", finished=None, rows=None, **changes):
    """(study, trials, merges) of a study with one merge, `m`."""
    study = make_study(merges={"m": {**TIES, **(merge or {})}}, **changes)
    inputs = make_inputs(study, content=content, rows=rows)
    for name, identity in (finished or {}).items():
        inputs.models[name] = ResolvedModel(name, identity, Path("/some/where"), name)
    trials = plan_trials(study, inputs)
    return study, trials, plan_merges(study, inputs, trials)


def ids(*words, **options):
    return {merge.name: merge.id for merge in planned(*words, **options)[2]}


def record_of(item, **changes):
    values = {
        "name": item.name, "id": item.id, "identity": dict(item.identity), "data": {},
        "evaluation": "e", "versions": {}, "metrics": {},
    }  # fmt: skip
    return Record(**{**values, **changes})


def test_merges_are_made_over_every_base_model_with_every_seed():
    bases = {"tiny": {"path": "base"}, "other": {"path": "else"}}
    _, trials, merges = planned(base_models=bases)
    names = ["tiny.m.s42", "tiny.m.s100", "other.m.s42", "other.m.s100"]
    assert [merge.name for merge in merges] == names
    assert merges[3].needs == ("other.alone.s100", "other.second.s100")
    assert [item.model for item in merges[3].request.inputs] == list(merges[3].needs)
    assert {merge.folder for merge in merges}.isdisjoint(trial.folder for trial in trials)


def test_merge_of_a_finished_model_is_made_at_its_base_model_and_seed_alone():
    bases = {"tiny": {"path": "base"}, "other": {"path": "else"}}
    models = {"f": {"path": "f", "base_model": "other", "seed": 100, "data": "D9"}}
    merge = {"models": ["alone", "f"]}
    _, _, (made,) = planned(merge, base_models=bases, models=models, finished={"f": "content:f"})
    assert (made.name, str(made.seed), made.needs) == ("other.m.s100", "100", ("other.alone.s100",))
    assert (made.label, made.row["data"]) == ("TIES(SFT(D0), f)", "D0+D9")


def test_merge_of_finished_models_alone_is_made_once():
    models = {name: {"path": name, "base_model": "tiny"} for name in "fg"}
    finished = {"f": "content:f", "g": "content:g"}
    _, _, (made,) = planned({"models": ["f", "g"]}, models=models, finished=finished)
    assert (made.name, made.seed, made.needs) == ("tiny.m", None, ())
    models["g"]["seed"] = 7
    _, _, (made,) = planned({"models": ["f", "g"]}, models=models, finished=finished)
    assert (made.name, str(made.seed)) == ("tiny.m.s7", "7")


def test_merge_is_made_at_the_seeds_that_all_its_recipes_have():
    seeds = {"init": [42, 100], "order": [42, 100]}
    recipes = {**CHAIN, "alone": {**CHAIN["alone"], "seeds": seeds}}
    recipes["other"] = {**recipes["other"], "seeds": [100]}
    _, _, merges = planned({"models": ["alone", "first"]}, recipes=recipes)
    assert [merge.name for merge in merges] == ["tiny.m.s42", "tiny.m.s100"]
    _, _, (made,) = planned({"models": ["alone", "other"]}, recipes=recipes)
    assert made.row["seed"] == made.row["seed_init"] == made.row["seed_order"] == 100
    _, _, merges = planned({"models": ["alone"]}, recipes=recipes)
    assert [merge.name for merge in merges][1] == "tiny.m.s42o100"
    assert merges[1].needs == ("tiny.alone.s42o100",)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_id_moves_with_every_parameter(change):
    others = [ids(other) for other in CHANGES if other != change]
    assert ids(change).keys() == ids().keys()
    assert not set(ids(change).values()) & {i for other in [ids(), *others] for i in other.values()}


def test_id_is_that_of_the_values_however_they_are_written():
    written = {"weights": [1, 1.0], "density": [0.2, 0.2], "scope": "global", "lambda": 1}
    assert ids(written) == ids()
    assert ids({"method": "dare_ties", "seed": 0}) == ids({"method": "dare_ties"})


def test_id_moves_with_the_base_model_and_with_each_trial_and_with_nothing_else():
    assert not set(ids().values()) & set(ids(content="content:bb").values())
    ancestor = {**CHAIN, "first": {**CHAIN["first"], "training": {"epochs": 9}}}
    assert not set(ids().values()) & set(ids(recipes=ancestor).values())
    stranger = {**CHAIN, "third": {**CHAIN["third"], "training": {"epochs": 9}}}
    assert ids(recipes=stranger) == ids()
    assert not set(ids().values()) & set(ids(rows={"D0": D0[1:], "D1": D1[1:]}).values())
    assert ids(evaluation={"prompts": 3}, densities=[0.7], resources={"cpus": 3}) == ids()


def test_id_of_a_merge_with_a_finished_model_moves_with_its_content_not_its_path():
    models = {"f": {"path": "f", "base_model": "tiny"}}
    merge = {"models": ["alone", "f"]}
    one, other = ({"finished": {"f": content}} for content in ("content:1", "content:2"))
    assert not set(ids(merge, models=models, **one).values()) & set(
        ids(merge, models=models, **other).values()
    )
    alone, far = {"models": ["f"]}, {"content": "content:bb"}
    assert ids(alone, models=models, **one) != ids(alone, models=models, **one, **far)
    moved = {"f": {**models["f"], "path": "elsewhere"}}
    assert ids(merge, models=moved, **one) == ids(merge, models=models, **one)
    assert "/" not in str(planned(merge, models=models, **one)[2][0].identity)


def test_states_of_merges_wait_for_their_trials_and_say_what_is_new():
    _, trials, merges = planned(seeds=[1])
    everything = [*trials, *merges]

    def state(done):
        return plan_states(everything, {item.id: record_of(item) for item in done}, "e")[-1]

    done = [trial for trial in trials if trial.variant.name != "second"]
    assert state([]).state == "blocked"
    assert state([]).why.startswith("waits for tiny.alone.s1 and tiny.second.s1; new: no merge")
    assert state(done).why.startswith("waits for tiny.second.s1; new")
    assert state(trials).state == "to run"
    assert state([merges[0]]).state == "cached"
    assert state(everything).why == ""
    _, _, (other,) = planned({"density": 0.3, "weights": [1, 0.5]}, seeds=[1])
    assert state([*trials, other]).why == (
        "new: model.1.density: 0.3 -> 0.2; model.2.density: 0.3 -> 0.2; model.2.weight: 0.5 -> 1"
    )


def test_state_of_a_merge_with_other_questions_is_to_ask_again():
    _, trials, merges = planned(seeds=[1])
    records = {item.id: record_of(item) for item in [*trials, *merges]}
    found = plan_states([*trials, *merges], records, "others")[-1]
    assert (found.state, found.why) == ("to run", "other questions: asked again, not merged")
    del records[merges[0].id]
    assert plan_states([*trials, *merges], records, "others")[-1].why.startswith("new: no merge")


def test_rows_of_merges_follow_their_trials(tmp_path):
    _, trials, merges = planned(seeds=[1])
    store = Store(str(tmp_path / "out"))

    def row():
        rows = trial_rows(read_results([*trials, *merges], store))
        assert to_table("trials", rows).num_rows == len(trials) + 1
        return rows[-1]

    assert row()["status"] == "pending"
    first = next(trial for trial in trials if trial.variant.name == "first")
    write_attempt(store, first.folder, Attempt(attempt=1, cause="oom", message="too large"))
    assert (row()["status"], row()["message"]) == (
        "blocked", "its model tiny.second.s1 is blocked"
    )  # fmt: skip
    write_attempt(store, merges[0].folder, Attempt(attempt=1, cause="error", message="no room"))
    assert (row()["status"], row()["cause"], row()["message"]) == ("failed", "error", "no room")
    store.write(trial_key(merges[0].folder, "merged", "x"), b"1")
    write_record(store, merges[0].folder, record_of(merges[0], metrics={"l2": 2.5}))
    assert (row()["status"], row()["l2"], row()["adapter"]) == ("done", 2.5, None)
    assert (row()["learning_rate"], row()["parent"], row()["method"]) == (None, None, "ties")


def compared(*asked, **changes):
    study, trials, merges = planned(comparisons=list(asked), **changes)
    models = plan_models(study, [*trials, *merges])
    assert models["tiny.m.s42"].lineage == ()
    return [item.name for item in plan_comparisons(study, models)]


def test_comparisons_name_merges_in_every_form():
    assert compared({"pair": ["m", "alone"]}) == [
        "tiny.m.s42~tiny.alone.s42", "tiny.m.s100~tiny.alone.s100"
    ]  # fmt: skip
    assert compared({"base": ["m"]}) == ["tiny.m.s42~tiny", "tiny.m.s100~tiny"]
    assert compared({"seeds": ["m"]}) == ["tiny.m.s42~tiny.m.s100"]
    assert len(compared({"base": "all"})) == 2 * (len(CHAIN) + 1)
    assert compared({"pairs": "all"})[-1] == "tiny.other.s100~tiny.m.s100"


SWEPT = {**CHAIN, "swept": {**CHAIN["alone"], "sweep": {"epochs": [1, 2]}}}
FINISHED = {
    "f": {"path": "f", "base_model": "tiny", "seed": 1},
    "g": {"path": "g", "base_model": "tiny", "seed": 2},
}
# (merge, name, what the study has besides, where, what is said)
MISTAKES = {
    "method": ({"method": "tie"}, "m", {}, ("method",), "did you mean ties?"),
    "model": ({"models": ["alnoe"]}, "m", {}, ("models", 0), "did you mean alone?"),
    "a merge": ({"models": ["alone", "m"]}, "m", {}, ("models", 1), "no recipe or model 'm'"),
    "several": (
        {"models": ["swept", "first"]}, "m", {"recipes": SWEPT},
        ("models", 0), "swept.epochs=1, swept.epochs=2",
    ),
    "idle seed": ({"seed": 1}, "m", {}, (), "ties has no seed"),
    "idle density": ({"method": "linear", "density": 0.5}, "m", {}, (), "linear has no density"),
    "weights": ({"weights": [1]}, "m", {}, (), "1 weights for 2 models"),
    "weights of zero": ({"weights": [0, 0]}, "m", {}, (), "all weights are 0"),
    "like a recipe": ({}, "alone", {}, (), "same name"),
    "like a model": ({}, "f", {"models": FINISHED}, (), "same name"),
    "like a base model": ({}, "tiny", {}, (), "a base model is called tiny"),
    "like a trial": ({}, "tiny.first.s42", {}, (), "a trial is called"),
    "seeds that never meet": (
        {"models": ["f", "g"]}, "m", {"models": FINISHED}, ("models",), "never meet",
    ),
    "not its seed": (
        {"models": ["alone", "f"]}, "m", {"models": FINISHED}, ("models",), "never meet",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_merge_with_a_mistake_is_named(kind):
    merge, name, changes, where, said = MISTAKES[kind]
    problems = check_references(make_study(merges={name: {**TIES, **merge}}, **changes))
    assert [problem.location for problem in problems] == [("merges", name, *where)]
    assert said in problems[0].message


@pytest.mark.parametrize(
    "merge",
    [
        {"density": 0}, {"density": [0.2]}, {"density": [0.2, 2]}, {"models": []}, {"weights": []},
        {"lambda": float("nan")}, {"scope": "row"}, {"seed": -1}, {"lamda": 1},
    ],
    ids=str,
)  # fmt: skip
def test_merge_out_of_bounds_is_refused(merge):
    with pytest.raises(ValueError, match="validation error"):
        make_study(merges={"m": {**TIES, **merge}})


def test_study_with_every_kind_of_merge_is_sound():
    merges = {
        "a": TIES,
        "b": {"method": "linear", "models": ["swept.epochs=1", "swept.epochs=2"]},
        "c": {"method": "dare_ties", "models": ["f", "first"], "density": [0.5, 1], "seed": 3},
        "d": {"method": "task_arithmetic", "models": ["first"], "weights": [-1], "lambda": 0.5},
    }
    study = make_study(merges=merges, recipes=SWEPT, models=FINISHED, seeds=[1, 3])
    assert check_references(study) == []
