"""The three forms of seeds, their names, and the columns and fields that hold them."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.spec.merge_variants import result_names
from raylab.spec.recipes import expand_recipes
from raylab.spec.seeds import COLUMNS, SUFFIX, Seeds, seeds_of, seeds_of_identity
from raylab.spec.study_file import parse_study, study_text
from raylab.spec.validation import check_references
from tests.studies import make_study, study_values

NUMBERS = st.integers(0, 2**32 - 1)
THREE = st.builds(Seeds, NUMBERS, NUMBERS, NUMBERS) | NUMBERS.map(Seeds.of)
FEW = st.integers(0, 3)
ONE_OF_FEW = st.builds(Seeds, FEW, FEW, FEW)


def seeds_in(asked):
    return [(s.init, s.order, s.dropout) for s in make_study(seeds=asked).seeds]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ([42, 100], [(42, 42, 42), (100, 100, 100)]),
        ({"init": [1, 2]}, [(1, 1, 1), (2, 2, 2)]),
        ({"init": [1, 2], "order": [1, 2]}, [(1, 1, 1), (1, 2, 1), (2, 1, 2), (2, 2, 2)]),
        ({"init": [1], "dropout": [5, 6]}, [(1, 1, 5), (1, 1, 6)]),
        ({"init": 1, "order": [2], "dropout": 3}, [(1, 2, 3)]),
        ([42, {"init": 42, "order": 7}], [(42, 42, 42), (42, 7, 42)]),
        ([{"init": 1, "dropout": 3}, {"init": 1}], [(1, 1, 3), (1, 1, 1)]),
    ],
)
def test_seeds_in_each_form_are_triples(asked, found):
    assert seeds_in(asked) == found


@given(*(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True) for _ in range(3)))
def test_seeds_of_three_lists_are_every_combination(init, order, dropout):
    found = seeds_in({"init": init, "order": order, "dropout": dropout})
    assert found == list(product(init, order, dropout))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[-1]", "seeds.0: a seed is a whole number from 0 to 4294967295 (found -1)"),
        ("[4294967296]", "seeds.0: a seed is a whole number"),
        ("[1, 4.5]", "seeds.1: a seed is a whole number"),
        ("[true]", "a whole number"),
        ("[1, {init: 1, order: 1}]", "the seeds must be distinct"),
        ("{init: [1, 1]}", "the seeds must be distinct"),
        ("{init: []}", "at least 1"),
        ("{init: [1], order: []}", "at least 1"),
        ("{init: [1], order: [-2]}", "`order` has -2"),
        ("{order: [1]}", "`init` is missing"),
        ("[{order: 1}]", "`init` is missing"),
        ("{inti: [1]}", "did you mean init?"),
        ("[{init: [1, 2]}]", "lists are crossed by themselves"),
        ("7", "seeds are a list of numbers"),
        ("all", "seeds are a list of numbers"),
        ("null", "seeds are a list of numbers"),
        ("[1, 5, {init: 5}]", "distinct, and 5 is there twice"),
    ],
)
def test_seeds_that_are_none_are_one_message(text, message):
    values = study_values()
    lines = [f"seeds: {text}", f"name: {values['name']}", "base_models: {tiny: {path: base}}"]
    lines += ["data: {D0: {path: d0}}", "recipes: {a: {method: sft, data: D0}}"]
    with pytest.raises(Exception, match=re.escape(message)) as error:
        parse_study("\n".join(lines), Path("study.yaml"))
    assert str(error.value).count("line 1: ") == str(error.value).count("\n") + 1 == 1


def test_seeds_are_written_so_that_they_are_read_as_the_same():
    study = make_study(
        seeds=[42, {"init": 42, "order": 7}, {"init": 1, "order": 2, "dropout": 3}],
        models={"done": {"path": "x", "base_model": "tiny", "seed": {"init": 3, "order": 4}}},
    )
    again = parse_study(study_text(study), Path("study.yaml"))
    assert (again.seeds, again.models["done"].seed) == (study.seeds, Seeds(3, 4, 3))
    assert "seeds: [42, 100]" in study_text(make_study())


@given(THREE, THREE)
def test_names_of_seeds_differ_where_the_seeds_do(one, other):
    assert (str(one) == str(other)) == (one == other)
    assert re.fullmatch(SUFFIX, one.suffix)


@given(ONE_OF_FEW, ONE_OF_FEW)
def test_names_of_seeds_of_few_numbers_differ_where_the_seeds_do(one, other):
    assert (str(one) == str(other)) == (one == other)


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        (Seeds.of(42), "42"),
        (Seeds(42, 100, 42), "42o100"),
        (Seeds(42, 7, 9), "42o7d9"),
        (Seeds(42, 42, 9), "42d9"),
        (Seeds(42, 9, 9), "42o9d9"),
    ],
)
def test_name_of_seeds_says_what_differs_from_that_of_a(seeds, text):
    assert (str(seeds), seeds.suffix) == (text, f".s{text}")


@given(THREE)
def test_columns_and_identity_hold_the_seeds(seeds):
    assert seeds_of(seeds.columns) == seeds_of_identity(seeds.identity) == seeds
    assert (
        (seeds.columns["seed"] is not None) == seeds.is_tied == (seeds.identity.keys() == {"seed"})
    )
    assert None not in (seeds.columns[name] for name in COLUMNS)


def test_columns_of_older_rows_and_of_no_training_are_understood():
    assert seeds_of({"seed": 42}) == seeds_of({"seed": 42, "seed_init": None}) == Seeds.of(42)
    assert seeds_of({"seed": None}) is seeds_of_identity({"merge.seed": 3}) is None


OWN = {"first": {"method": "sft", "data": "D0", "seeds": {"init": [1, 2], "order": [1, 2]}}}


def test_recipe_with_seeds_of_its_own_is_trained_with_them():
    study = make_study(seeds=[1, 2], recipes={**OWN, "other": {"method": "sft", "data": "D0"}})
    names = ["first.s1", "first.s1o2", "first.s2o1", "first.s2", "other.s1", "other.s2"]
    assert result_names(study) == [f"tiny.{name}" for name in names]
    assert expand_recipes(study)["other"].seeds == study.seeds


@pytest.mark.parametrize(
    ("parent", "child", "field", "said"),
    [
        ({}, {"seeds": [7]}, "seeds", "not trained with 7, but with 1, 2"),
        ({"seeds": [1]}, {}, "parent", "not trained with 2, but with 1"),
        ({}, {"seeds": [{"init": 1, "order": 2}]}, "seeds", "not trained with 1o2"),
        ({"seeds": [1, 3]}, {"seeds": [3, 4]}, "seeds", "not trained with 4, but with 1, 3"),
    ],
)
def test_child_of_a_parent_without_its_seeds_is_refused(parent, child, field, said):
    recipes = {
        "p": {"method": "sft", "data": "D0", **parent},
        "c": {"method": "sft", "data": "D1", "parent": "p", **child},
    }
    (problem,) = check_references(make_study(seeds=[1, 2], recipes=recipes))
    assert problem.location == ("recipes", "c", field)
    assert said in problem.message


def test_child_with_some_of_its_parents_seeds_is_trained():
    recipes = {**OWN, "c": {"method": "sft", "data": "D1", "parent": "first", "seeds": [2]}}
    study = make_study(seeds=[5], recipes=recipes)
    assert check_references(study) == []
    assert result_names(study)[-1] == "tiny.c.s2"
