"""Recipes: overrides, sweeps, children of swept parents."""

import pytest
from pydantic import ValidationError

from raylab.spec.recipes import expand_recipes, resolve_parameters, swept_fields, variants_of
from raylab.spec.study import Lora, LoraOverrides, Training, TrainingOverrides
from raylab.spec.validation import check_references
from tests.studies import make_study

SFT = {"method": "sft", "data": "D2"}
DPO = {"method": "dpo", "chosen": "D1", "rejected": "D0", "parent": "a"}


def names(**recipes):
    return list(expand_recipes(make_study(recipes=recipes)))


def test_expand_plain_recipes_keeps_order():
    assert names(b=SFT, a=SFT) == ["b", "a"]


def test_expand_child_before_parent_puts_parent_first():
    assert names(z=DPO, a=SFT) == ["a", "z"]


def test_expand_sweep_makes_every_combination():
    swept = {**SFT, "sweep": {"learning_rate": [1e-5, 1e-4], "lora.r": [4, 8]}}
    variants = expand_recipes(make_study(recipes={"a": swept}))
    assert list(variants) == [
        "a.learning_rate=1e-5.lora.r=4",
        "a.learning_rate=1e-5.lora.r=8",
        "a.learning_rate=1e-4.lora.r=4",
        "a.learning_rate=1e-4.lora.r=8",
    ]
    last = variants["a.learning_rate=1e-4.lora.r=8"]
    assert (last.training.learning_rate, last.lora.r, last.recipe) == (1e-4, 8, "a")


def test_expand_child_of_swept_parent_follows_each():
    swept = {**SFT, "sweep": {"learning_rate": [1e-5, 1e-4]}}
    grandchild = {**DPO, "parent": "b"}
    variants = expand_recipes(make_study(recipes={"c": grandchild, "b": DPO, "a": swept}))
    assert variants["b.parent.learning_rate=1e-5"].parent == "a.learning_rate=1e-5"
    deep = variants["c.parent.parent.learning_rate=1e-4"]
    assert deep.parent == "b.parent.learning_rate=1e-4"
    assert deep.training.learning_rate == 1e-5
    order = list(variants)
    assert len(order) == 6
    for variant in variants.values():
        if variant.parent:
            assert order.index(variant.parent) < order.index(variant.name)


def test_expand_swept_child_of_swept_parent_multiplies():
    swept = {**SFT, "sweep": {"epochs": [1, 2]}}
    child = {**DPO, "sweep": {"beta": [0.1, 0.3, 0.5]}}
    found = names(a=swept, b=child)
    assert len(found) == 2 + 6
    assert "b.parent.epochs=1.beta=0.3" in found


def test_expand_child_of_one_variant_stands_alone():
    swept = {**SFT, "sweep": {"epochs": [1, 2]}}
    child = {**DPO, "parent": "a.epochs=2"}
    variants = expand_recipes(make_study(recipes={"b": child, "a": swept}))
    assert variants["b"].parent == "a.epochs=2"
    assert sorted(variants) == ["a.epochs=1", "a.epochs=2", "b"]


def test_variants_of_name_of_recipe_gives_all_and_of_variant_gives_one():
    study = make_study(recipes={"a": {**SFT, "sweep": {"epochs": [1, 2]}}, "a.b": SFT})
    assert [v.name for v in variants_of(study, "a")] == ["a.epochs=1", "a.epochs=2"]
    assert [v.name for v in variants_of(study, "a.epochs=2")] == ["a.epochs=2"]
    assert [v.name for v in variants_of(study, "a.b")] == ["a.b"]
    assert variants_of(study, "nothing") == []


def test_resolve_parameters_later_values_win():
    recipe = {**SFT, "training": {"epochs": 5, "batch_size": 7}, "lora": {"r": 2}}
    study = make_study(training={"epochs": 4, "warmup_ratio": 0.5}, recipes={"a": recipe})
    training, lora = resolve_parameters(study, study.recipes["a"], {"batch_size": 9, "lora.r": 3})
    assert (training.epochs, training.warmup_ratio, training.batch_size, lora.r) == (5, 0.5, 9, 3)
    assert lora.alpha == 128


def test_resolve_parameters_override_false_beats_true():
    recipe = {**SFT, "lora": {"rslora": False}, "training": {"weight_decay": 0}}
    study = make_study(lora={"rslora": True}, training={"weight_decay": 1}, recipes={"a": recipe})
    training, lora = resolve_parameters(study, study.recipes["a"], {})
    assert (training.weight_decay, lora.rslora) == (0, False)


def test_resolve_parameters_out_of_bounds_raises():
    study = make_study()
    with pytest.raises(ValidationError):
        resolve_parameters(study, study.recipes["first"], {"learning_rate": -1})


def test_overrides_cover_all_fields():
    assert set(TrainingOverrides.model_fields) == set(Training.model_fields)
    assert set(LoraOverrides.model_fields) == set(Lora.model_fields)
    expected = {*Training.model_fields, *(f"lora.{key}" for key in Lora.model_fields)}
    assert set(swept_fields()) == expected


@pytest.mark.parametrize(("key", "value"), [("epochs", 0), ("batch_size", 0), ("beta", -1)])
def test_overrides_hold_the_bounds(key, value):
    with pytest.raises(ValidationError):
        TrainingOverrides(**{key: value})


def test_labels_are_those_of_papers():
    variants = expand_recipes(make_study())
    assert variants["first"].label == "SFT(D2)"
    assert variants["second"].label == "DPO(D0)(SFT D2)"


@pytest.mark.parametrize("size", [1, 2, 5])
def test_references_cycle_of_parents_is_named(size):
    recipes = {
        f"r{i}": {**DPO, "parent": f"r{(i + 1) % size}", "sweep": {"epochs": [1, 2]}}
        for i in range(size)
    }
    [problem] = check_references(make_study(recipes=recipes))
    assert "cycle" in problem.message
    assert problem.location[-1] == "parent"


def test_references_sound_study_has_no_problems():
    assert check_references(make_study()) == []
