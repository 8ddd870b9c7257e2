"""Comparisons: four forms, within a base model, each pair once."""

from raylab.plan.comparisons import (
    comparisons_without_pairs,
    first_pair,
    plan_comparisons,
    plan_models,
)
from raylab.plan.trials import plan_trials
from raylab.spec.validation import check_references
from tests.studies import make_inputs, make_study

SFT0, SFT1 = {"method": "sft", "data": "D0"}, {"method": "sft", "data": "D1"}
DPO = {"method": "dpo", "chosen": "D1", "rejected": "D0"}
RECIPES = {"a": SFT0, "b": SFT1, "c": {**DPO, "parent": "a"}}


def compared(*asked, **changes):
    values = {"recipes": RECIPES, "seeds": [1, 2], **changes}
    study = make_study(comparisons=list(asked), **values)
    models = plan_models(study, plan_trials(study, make_inputs(study)))
    return plan_comparisons(study, models)


def names(*asked, **changes):
    return [item.name for item in compared(*asked, **changes)]


def test_item_that_compares_nothing_is_said_once_and_refuses_nothing():
    recipes = {"a": SFT0, "b": {**SFT1, "seeds": [7]}, "c": {**DPO, "parent": "a"}}
    asked = [
        {"pair": ["a", "b"]},
        {"pair": ["a", "c"]},
        {"seeds": ["b"]},
        {"pairs": ["b"]},
        {"base": []},
        {"seeds": "all"},
    ]
    study = make_study(comparisons=asked, recipes=recipes, seeds=[1])
    found = list(comparisons_without_pairs(study, plan_trials(study, make_inputs(study))))
    assert [line.split(" compares nothing: ")[0] for line in found] == [
        "comparisons.0 (pair: a, b)",
        "comparisons.2 (seeds: b)",
        "comparisons.3 (pairs: b)",
        "comparisons.4 (base: )",
        "comparisons.5 (seeds: all)",
    ]
    assert "one seed" in found[0] and "two seeds" in found[1]


def test_pair_form_pairs_at_each_seed():
    assert names({"pair": ["b", "a"]}) == ["tiny.b.s1~tiny.a.s1", "tiny.b.s2~tiny.a.s2"]


def test_pair_form_never_crosses_base_models():
    two = {"m": {"path": "x"}, "n": {"path": "y"}}
    assert names({"pair": ["a", "b"]}, base_models=two, seeds=[1]) == [
        "m.a.s1~m.b.s1",
        "n.a.s1~n.b.s1",
    ]


def test_base_form_of_names_subtracts_base_model():
    found = compared({"base": ["a", "c"]})
    assert [item.name for item in found] == [
        "tiny.a.s1~tiny", "tiny.a.s2~tiny", "tiny.c.s1~tiny", "tiny.c.s2~tiny",
    ]  # fmt: skip
    assert {item.form for item in found} == {"base"}
    assert found[-1].a.lineage == ("tiny.a.s2", "tiny.c.s2")
    assert {item.b.lineage for item in found} == {()}


def test_base_form_of_all_takes_every_model():
    models = {"done": {"path": "d", "base_model": "tiny"}}
    found = names({"base": "all"}, models=models)
    assert len(found) == 7
    assert found[-1] == "done~tiny"


def test_seeds_form_compares_seeds_of_one_recipe():
    assert names({"seeds": ["a"]}, seeds=[1, 2, 3]) == [
        "tiny.a.s1~tiny.a.s2", "tiny.a.s1~tiny.a.s3", "tiny.a.s2~tiny.a.s3",
    ]  # fmt: skip
    assert len(names({"seeds": "all"})) == 3
    assert names({"seeds": "all"}, seeds=[1]) == []


CROSSED = {"init": [1, 2], "order": [1, 2]}
OWN = {"a": {**SFT0, "seeds": CROSSED}, "b": SFT1}


def test_pair_form_pairs_where_all_three_seeds_are_equal():
    assert names({"pair": ["a", "b"]}, seeds=CROSSED) == [
        f"tiny.a.{seed}~tiny.b.{seed}" for seed in ("s1", "s1o2", "s2o1", "s2")
    ]


def test_pair_form_leaves_out_seeds_that_one_side_has():
    expected = ["tiny.a.s1~tiny.b.s1", "tiny.a.s2~tiny.b.s2"]
    assert names({"pair": ["a", "b"]}, recipes=OWN) == expected


def test_seeds_form_pairs_seeds_that_differ_in_any_of_three():
    found = names({"seeds": "all"}, recipes=OWN)
    assert len(found) == 4 * 3 // 2 + 1
    assert "tiny.a.s1~tiny.a.s1o2" in found


def test_pairs_form_finished_model_meets_all_three_of_its_seeds_alone():
    models = {
        "one": {"path": "d", "base_model": "tiny", "seed": 1},
        "mixed": {"path": "e", "base_model": "tiny", "seed": {"init": 1, "order": 2}},
    }
    assert names({"pair": ["a", "one"]}, models=models, recipes=OWN) == ["tiny.a.s1~one"]
    assert names({"pair": ["a", "mixed"]}, models=models, recipes=OWN) == ["tiny.a.s1o2~mixed"]
    assert names({"pair": ["one", "mixed"]}, models=models) == []


def test_pairs_form_pairs_all_at_each_seed():
    assert names({"pairs": ["a", "b", "c"]}, seeds=[1]) == [
        "tiny.a.s1~tiny.b.s1", "tiny.a.s1~tiny.c.s1", "tiny.b.s1~tiny.c.s1",
    ]  # fmt: skip
    assert len(names({"pairs": "all"})) == 6


def test_pairs_form_finished_model_without_seed_meets_every_seed():
    models = {"done": {"path": "d", "base_model": "tiny"}}
    assert names({"pair": ["done", "a"]}, models=models) == ["done~tiny.a.s1", "done~tiny.a.s2"]


def test_pairs_form_finished_model_with_seed_meets_that_seed():
    models = {"done": {"path": "d", "base_model": "tiny", "seed": 2}}
    assert names({"pair": ["a", "done"]}, models=models) == ["tiny.a.s2~done"]


def test_forms_same_pair_asked_twice_stands_once_in_order():
    asked = ({"pair": ["b", "a"]}, {"pair": ["a", "b"]}, {"pair": ["b", "a"]}, {"base": ["a"]})
    found = names(*asked, seeds=[1])
    assert found == ["tiny.b.s1~tiny.a.s1", "tiny.a.s1~tiny.b.s1", "tiny.a.s1~tiny"]


def test_pair_of_sweeps_meets_where_points_are_equal():
    sweep = {"sweep": {"learning_rate": [1e-5, 1e-4]}}
    recipes = {"a": {**SFT0, **sweep}, "b": {**SFT1, **sweep}}
    assert names({"pair": ["a", "b"]}, recipes=recipes, seeds=[1]) == [
        "tiny.a.learning_rate=1e-5.s1~tiny.b.learning_rate=1e-5.s1",
        "tiny.a.learning_rate=1e-4.s1~tiny.b.learning_rate=1e-4.s1",
    ]


def test_pair_of_one_variant_with_plain_recipe_is_one():
    recipes = {"a": {**SFT0, "sweep": {"epochs": [1, 2]}}, "b": SFT1}
    asked = {"pair": ["a.epochs=2", "b"]}
    assert names(asked, recipes=recipes, seeds=[1]) == ["tiny.a.epochs=2.s1~tiny.b.s1"]


def test_models_finished_one_named_like_a_trial_is_refused():
    models = {"tiny.a.s1": {"path": "d", "base_model": "tiny"}}
    study = make_study(recipes=RECIPES, seeds=[1], models=models)
    problems = check_references(study)
    assert [problem.location for problem in problems] == [("models", "tiny.a.s1")]
    assert "a trial has the same name" in problems[0].message


def test_first_pair_is_the_first_of_two_trials_with_their_parents():
    found = first_pair(compared({"base": "all"}, {"pair": ["b", "c"]}, {"seeds": "all"}))
    assert found == {"tiny.a.s1", "tiny.b.s1", "tiny.c.s1"}


def test_first_pair_of_comparisons_with_base_models_is_none():
    assert first_pair(compared({"base": "all"})) == frozenset()
