"""Models, their distances and labels against real vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.report.findings.trained_models import (
    Distances,
    labels_of,
    models_of,
    one_factor_pairs,
)
from raylab.report.study_tables import Tables
from raylab.spec.seeds import Seeds
from tests.report.findings.vectors import BASE, name_of, norm, pair, study_of, trial

RECIPES = {"a": {"data": "D0"}, "b": {"data": "D1"}}


def models(*trials):
    return models_of(Tables.of({"trials": trials}))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_between_any_two_vectors_is_the_length_of_their_difference(seed, size):
    chance = np.random.default_rng(seed)
    one, other = chance.normal(0, 1, 8), chance.normal(0, size, 8)
    tables = study_of({("a", 1): one, ("b", 1): other}, RECIPES)
    a, b = models_of(tables)
    found = Distances(tables).between(a, b)
    assert found.source == "pairs"
    assert found.value == pytest.approx(math.dist(one, other), rel=1e-9)
    assert Distances(tables).between(b, a).value == pytest.approx(found.value, rel=1e-12)


def test_between_equal_vectors_is_zero_and_not_imaginary():
    tables = Tables.of(
        {
            "trials": [trial("a", l2=0.1), trial("b", l2=0.1, data="D1")],
            "pairs": [pair(name_of("a", 1), name_of("b", 1), 1.0000000000000002)],
        }
    )
    assert Distances(tables).between(*models_of(tables)).value == 0.0


def test_between_models_that_no_table_compares_is_none():
    rows = {
        "trials": [trial("a"), trial("b", data="D1")],
        "pairs": [pair(name_of("a", 1), name_of("b", 1), 0.3, level="layer", key="0")],
        "norms": [norm(name_of("a", 1), name_of("b", 1), math.nan)],
    }
    tables = Tables.of(rows)
    assert Distances(tables).between(*models_of(tables)) is None


def test_models_of_leaves_out_failed_trials_merges_and_those_without_a_norm():
    found = models(
        trial("a"),
        trial("b", status="failed"),
        trial("m", method="ties"),
        trial("n", l2=None),
        trial("o", l2=0.0),
        trial("p", l2=math.nan),
    )
    assert [model.name for model in found] == [name_of("a", 1)]
    assert (found[0].recipe, found[0].seed, found[0].label) == (f"{BASE}.a", Seeds.of(1), "A")


def test_models_of_one_parent_at_two_seeds_share_its_stem():
    found = models(*(trial("d", s, parent=name_of("p", s)) for s in (4, 100)))
    assert [model.factors["parent"] for model in found] == [f"{BASE}.p"] * 2


def test_one_factor_pairs_parents_are_a_factor_of_their_own():
    found = models(
        *(
            trial(recipe, seed, method="dpo", parent=name_of(parent, seed))
            for recipe, parent in (("x", "p"), ("y", "q"))
            for seed in (1, 2)
        )
    )
    (difference,) = one_factor_pairs(found)
    factor, a, b = difference.factor, difference.a, difference.b
    assert (factor, len(a), len(b)) == ("parent", 2, 2)


def test_one_factor_pairs_two_factors_or_none_is_no_difference():
    assert not list(one_factor_pairs(models(trial("x"), trial("y", data="D1", method="dpo"))))
    assert not list(one_factor_pairs(models(trial("x"), trial("y"))))


def test_labels_of_recipes_with_one_label_are_told_apart_by_what_differs():
    found = labels_of(
        models(
            trial("a", label="SFT", learning_rate=1e-5),
            trial("b", label="SFT", learning_rate=1e-4),
            trial("c", label="DPO", learning_rate=1e-5),
            trial("d", label="DPO", learning_rate=1e-5, data="D1"),
            trial("e", label="KTO"),
        )
    )
    assert found == {
        f"{BASE}.a": "SFT 1e-5",
        f"{BASE}.b": "SFT 1e-4",
        f"{BASE}.c": f"{BASE}.c",
        f"{BASE}.d": f"{BASE}.d",
        f"{BASE}.e": "KTO",
    }


def test_models_of_older_tables_and_of_crossed_seeds_have_their_seeds():
    older = {key: value for key, value in trial("a", 4).items() if not key.startswith("seed_")}
    one, other = models(older, trial("a", Seeds(4, 7, 4), parent=name_of("p", Seeds(4, 7, 4))))
    assert (one.seed, other.seed) == (Seeds.of(4), Seeds(4, 7, 4))
    assert one.recipe == other.recipe == f"{BASE}.a"
    assert other.factors["parent"] == f"{BASE}.p"
    assert (one.factors["seed"], other.factors["seed"]) == (4, "4o7")
