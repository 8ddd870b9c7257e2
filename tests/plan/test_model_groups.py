"""Which trials are compared all at once."""

from raylab.plan.model_groups import groups_of
from raylab.plan.trials import plan_trials
from tests.studies import CHAIN, make_inputs, make_study


def groups(**changes):
    study = make_study(**changes)
    return [
        (group.kind, group.name, group.models)
        for group in groups_of(plan_trials(study, make_inputs(study)))
    ]


def named(recipes, seeds):
    return tuple(f"tiny.{recipe}.s{seed}" for recipe in recipes for seed in seeds)


def test_groups_are_all_trials_those_of_a_seed_and_those_of_a_recipe():
    recipes = {name: CHAIN[name] for name in ("alone", "first")}
    assert [(kind, name, set(models)) for kind, name, models in groups(recipes=recipes)] == [
        ("all", None, set(named(recipes, (42, 100)))),
        ("seed", "42", set(named(recipes, (42,)))),
        ("seed", "100", set(named(recipes, (100,)))),
        ("recipe", "alone", set(named(("alone",), (42, 100)))),
        ("recipe", "first", set(named(("first",), (42, 100)))),
    ]


def test_groups_of_the_same_models_or_of_one_are_left_out():
    one_recipe = {"alone": CHAIN["alone"]}
    assert groups(recipes=one_recipe) == [("all", None, named(one_recipe, (42, 100)))]
    two = {name: CHAIN[name] for name in ("alone", "first")}
    assert [kind for kind, _, _ in groups(recipes=two, seeds=[1])] == ["all"]
    assert groups(recipes=one_recipe, seeds=[1]) == []
