"""Values in names: every spelling of a value is one name, and the study's spelling is shown."""

import copy
import pickle
from pathlib import Path

import pytest

from raylab.errors import StudyError
from raylab.plan.trials import plan_trials
from raylab.spec.recipes import expand_recipes, variants_of
from raylab.spec.study_file import parse_study, study_text
from raylab.spec.swept_names import (
    WrittenFloat,
    by_value,
    rate_text,
    values_of,
    with_spelling,
    without_point,
    written,
)
from tests.studies import make_inputs, make_study

TEXT = """
name: s
base_models: {tiny: {path: base}}
data: {D0: {path: a.jsonl}, D1: {path: b.jsonl}}
recipes:
  sft:
    method: sft
    data: D0
    sweep: {learning_rate: [RATES], gradient_checkpointing: [true]}
  dpo: {method: dpo, chosen: D0, rejected: D1, parent: "PARENT"}
merges:
  both: {method: ties, models: ["PARENT", dpo]}
comparisons:
  - pair: ["PARENT", dpo]
connectivity:
  - pair: ["PARENT", dpo]
  - seeds: ["PARENT"]
reference:
  - {pair: ["PARENT", dpo], seed: 42, l2: 1, source: here}
"""
POINT = "sft.learning_rate={}.gradient_checkpointing=true"


def study(rates="3e-4, 3e-3", parent="sft.learning_rate=3e-4.gradient_checkpointing=true"):
    return parse_study(TEXT.replace("RATES", rates).replace("PARENT", parent), Path("s.yaml"))


@pytest.mark.parametrize("spelling", ["3e-4", "0.0003", "3.0E-04", "+.0003", "0.000_3", "30e-5"])
def test_variant_name_has_the_spelling_of_the_file(spelling):
    parent = POINT.format(spelling)
    found = study(f"{spelling}, 3e-3", parent)
    assert next(iter(expand_recipes(found))) == parent
    assert expand_recipes(found)[parent].training.learning_rate == 0.0003


@pytest.mark.parametrize("spelling", ["3e-4", "0.0003", "3.0E-04", "+.0003"])
def test_references_any_spelling_becomes_that_of_the_sweep(spelling):
    found, name = study(parent=POINT.format(spelling)), POINT.format("3e-4")
    assert found.recipes["dpo"].parent == name
    assert found.merges["both"].models == (name, "dpo")
    assert found.comparisons[0].pair == (name, "dpo")
    assert found.reference[0].pair == (name, "dpo")
    assert [variant.name for variant in variants_of(found, POINT.format(spelling))] == [name]


def test_lines_any_spelling_becomes_that_of_the_sweep():
    name = POINT.format("3e-4")
    first, second = study(parent=POINT.format("0.0003")).connectivity
    assert (first.pair, second.seeds) == ((name, "dpo"), (name,))


def test_reference_with_another_value_lists_what_there_is_nearest_first():
    with pytest.raises(StudyError) as caught:
        study("3e-3, 3e-4, 3e-2", POINT.format("2e-4"))
    assert "did you mean" not in str(caught.value)
    listed = ", ".join(POINT.format(rate) for rate in ("3e-4", "3e-3", "3e-2"))
    assert f"known: {listed}" in str(caught.value)


def test_spelling_changes_no_id():
    recipe = {"method": "sft", "data": "D0"}
    ids = []
    for rates in ([with_spelling(0.0003, "3e-4")], [with_spelling(0.0003, "0.0003")], [0.0003]):
        asked = make_study(recipes={"sft": {**recipe, "sweep": {"learning_rate": rates}}})
        ids.append([trial.id for trial in plan_trials(asked, make_inputs(asked))])
    assert ids[0] == ids[1] == ids[2] != []


def test_sweep_with_one_value_in_two_spellings_is_refused():
    with pytest.raises(StudyError, match="distinct"):
        study('3e-4, "0.0003"')


def test_study_text_keeps_spellings_and_values():
    found = study("0.00030, 3.0e-3", POINT.format("3e-4"))
    again = parse_study(study_text(found), Path("s.yaml"))
    assert again == found
    assert [*expand_recipes(again)] == [*expand_recipes(found)]
    assert POINT.format("0.00030") in expand_recipes(again)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_written_float_copied_keeps_its_text(copied):
    made = copied(WrittenFloat(0.0003, "3e-4"))
    assert (made, str(made), type(made)) == (0.0003, "3e-4", WrittenFloat)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0003, "3e-4"), (1e-5, "1e-5"), (0.1234567891, "0.1234567891"), (8, "8"), (True, "true"),
     ("cosine", "cosine"), (64.0, "64")],
)  # fmt: skip
def test_written_value_without_a_spelling_is_short_and_exact(value, text):
    assert written(value) == text


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a.r=3e-4.s1", "a.r=0.0003.s1"),
        ("a.r=1.5.lora.r=8.s42", "a.r=1.50.lora.r=8.0.s42"),
        ("m.a.r=1e-4.s1~m.b.r=2.s1", "m.a.r=.0001.s1~m.b.r=2.0.s1"),
        ("a.x=True", "a.x=true"),
    ],
)
def test_by_value_spellings_of_one_value_are_equal(one, two):
    assert one != two
    assert by_value(one) == by_value(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a.r=3e-4", "a.r=3e-3"), ("a.r=1.s1", "a.r=1.s2"), ("a.x=true", "a.x=false"),
        ("sft-d0.s1", "sft-d1.s1"), ("a.s=cosine", "a.s=linear"),
    ],
)  # fmt: skip
def test_by_value_other_values_stay_apart(one, two):
    assert by_value(one) != by_value(two)


def test_values_and_recipe_of_a_name():
    name = "tiny.sft.parent.learning_rate=3e-4.lora.r=8.s42"
    assert values_of(name) == (0.0003, 8.0)
    assert without_point(name) == "tiny.sft"
    assert without_point("tiny.sft.s42") is None


def test_rate_text_is_that_of_the_name_where_it_is_this_rate():
    assert rate_text("tiny.sft.learning_rate=0.0003.s1", 3e-4) == "0.0003"
    assert rate_text("tiny.sft.learning_rate=0.0003.s1", 1e-5) == "1e-5"
    assert rate_text("tiny.dpo.parent.learning_rate=0.0003.s1", 3e-4) == "3e-4"
    assert rate_text("tiny.dpo.s1", None) == "–"
