"""Distances, floors and verdicts against the vectors that the tables were made of."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from raylab.report.findings import seed_baseline
from raylab.report.findings.seed_baseline import verdict_of
from raylab.report.study_tables import Tables
from raylab.spec.seeds import Seeds
from tests.report.findings.vectors import (
    name_of,
    norm,
    pair,
    pairs_of,
    study_of,
    trial,
    trials_of,
)

RECIPES = {
    "a": {"method": "sft", "data": "D0"},
    "b": {"method": "sft", "data": "D1"},
    "c": {"method": "dpo", "data": "D1"},
}
SEEDS = (1, 2, 3)


def make_vectors(recipes=RECIPES, seeds=SEEDS, size=40):
    chance = np.random.default_rng(17)
    return {(r, s): chance.normal(0, 1 + place, size) for place, r in enumerate(recipes)
            for s in seeds}  # fmt: skip


def length(vector):
    return float(np.linalg.norm(vector))


def differences_of(tables):
    rows = seed_baseline.find(tables).frames["differences"]
    return {(row["factor"], row["a"].split(".")[1], row["b"].split(".")[1]): row for row in rows}


def test_seed_baseline_recipes_that_differ_in_one_factor_have_a_row_each_and_no_others():
    assert set(differences_of(study_of(make_vectors(), RECIPES))) == {
        ("data", "a", "b"),
        ("method", "b", "c"),
    }


def test_seed_baseline_distances_agree_with_the_vectors():
    vectors = make_vectors()
    row = differences_of(study_of(vectors, RECIPES))["data", "a", "b"]
    like = [length(vectors["a", s] - vectors["b", s]) for s in SEEDS]
    seed = [
        length(vectors[recipe, s] - vectors[recipe, t])
        for recipe in "ab"
        for s, t in itertools.combinations(SEEDS, 2)
    ]
    assert (row["seeds"], row["seed_pairs"], row["source"]) == (3, 6, "pairs")
    assert row["distance"] == pytest.approx(np.mean(like), rel=1e-12)
    assert row["deviation"] == pytest.approx(np.std(like) * math.sqrt(3 / 2), rel=1e-12)
    assert (row["low"], row["high"]) == pytest.approx((min(like), max(like)), rel=1e-12)
    assert row["seed_distance"] == pytest.approx(np.mean(seed), rel=1e-12)
    assert row["ratio"] == pytest.approx(np.mean(like) / np.mean(seed), rel=1e-12)


def test_seed_baseline_norms_agree_with_the_vectors():
    vectors = make_vectors()
    row = differences_of(study_of(vectors, RECIPES))["method", "b", "c"]
    norms = {recipe: [length(vectors[recipe, s]) for s in SEEDS] for recipe in "bc"}
    factor = np.mean(norms["c"]) / np.mean(norms["b"])
    spread = max(max(found) / min(found) for found in norms.values())
    assert factor > 1
    assert row["norm_factor"] == pytest.approx(factor, rel=1e-12)
    assert row["norm_spread"] == pytest.approx(spread, rel=1e-12)
    assert spread ** row["norm_times"] == pytest.approx(factor, rel=1e-12)


def test_seed_baseline_of_a_recipe_agrees_with_the_vectors():
    vectors = make_vectors()
    found = seed_baseline.find(study_of(vectors, RECIPES))
    rows = {row["label"]: row for row in found.frames["floor"]}
    norms = [length(vectors["b", s]) for s in SEEDS]
    apart = [length(vectors["b", s] - vectors["b", t]) for s, t in ((1, 2), (1, 3), (2, 3))]
    row = rows["B"]
    assert (row["seeds"], row["seed_pairs"]) == (3, 3)
    assert row["l2_mean"] == pytest.approx(sum(norms) / 3, rel=1e-12)
    assert row["l2_deviation"] == pytest.approx(np.std(norms, ddof=1), rel=1e-12)
    assert (row["l2_low"], row["l2_high"]) == pytest.approx((min(norms), max(norms)), rel=1e-12)
    assert row["l2_factor"] == pytest.approx(max(norms) / min(norms), rel=1e-12)
    assert row["seed_distance"] == pytest.approx(np.mean(apart), rel=1e-12)
    assert row["relative_distance"] == pytest.approx(np.mean(apart) / np.mean(norms), rel=1e-12)


def test_seed_baseline_independent_parts_of_factor_and_seed_have_the_ratio_of_their_sizes():
    # d^2 = 3 s^2 in 4000 dimensions, where independent parts are at right angles: ratio 2.
    chance, size = np.random.default_rng(2), 4000
    places = {recipe: chance.normal(0, math.sqrt(3), size) for recipe in "ab"}
    vectors = {(r, s): places[r] + chance.normal(0, 1, size) for r in "ab" for s in SEEDS}
    row = differences_of(study_of(vectors, {"a": {}, "b": {"data": "D1"}}))["data", "a", "b"]
    assert row["ratio"] == pytest.approx(2, rel=0.02)
    assert row["ratio_unlike"] == pytest.approx(2, rel=0.02)


def test_seed_baseline_measured_distance_wins_over_a_derived_one():
    vectors = make_vectors()
    measured = norm(name_of("b", 1), name_of("a", 1), 1234.5)
    elsewhere = norm(name_of("a", 2), name_of("b", 2), 9e9, level="layer", key="0")
    tables = Tables.of(
        {
            "trials": trials_of(vectors, RECIPES),
            "pairs": pairs_of(vectors),
            "norms": [measured, elsewhere],
        }
    )
    row = differences_of(tables)["data", "a", "b"]
    rest = [length(vectors["a", s] - vectors["b", s]) for s in (2, 3)]
    assert row["distance"] == pytest.approx((1234.5 + sum(rest)) / 3, rel=1e-12)
    assert row["source"] == "norms+pairs"


def test_seed_baseline_seed_that_one_recipe_lacks_is_left_out_of_the_distance():
    vectors = {key: found for key, found in make_vectors().items() if key != ("b", 2)}
    row = differences_of(study_of(vectors, RECIPES))["data", "a", "b"]
    like = [length(vectors["a", s] - vectors["b", s]) for s in (1, 3)]
    assert (row["seeds"], row["seed_pairs"]) == (2, 4)
    assert row["distance"] == pytest.approx(np.mean(like), rel=1e-12)
    assert row["deviation"] is row["low"] is row["high"] is None


def test_seed_baseline_difference_without_a_measured_pair_has_a_row_of_unknowns():
    tables = Tables.of({"trials": trials_of(make_vectors(), RECIPES)})
    row = differences_of(tables)["data", "a", "b"]
    assert row["distance"] is row["seed_distance"] is row["ratio"] is None
    assert (row["seeds"], row["seed_pairs"], row["verdict"]) == (0, 0, "unknown")


@pytest.mark.parametrize(
    ("apart", "verdict"),
    [(1.0, "within"), (1.25, "within"), (1.26, "near"), (1.99, "near"), (2.0, "beyond")],
)
def test_seed_baseline_verdict_follows_the_ratio_of_distances_at_different_seeds(apart, verdict):
    found = {r: [name_of(r, s) for s in (1, 2)] for r in "ab"}
    norms = [norm(*found["a"], 1.0), norm(*found["b"], 1.0)]
    # At the same seed the recipes lie close together, which is no reason for a verdict.
    norms += [norm(a, b, 0.5) for a, b in zip(found["a"], found["b"], strict=True)]
    norms += [norm(a, b, apart) for a, b in zip(found["a"], found["b"][::-1], strict=True)]

    def row_of(l2):
        trials = [trial(r, s, l2, data=r) for r in "ab" for s in (1, 2)]
        return differences_of(Tables.of({"trials": trials, "norms": norms}))["data", "a", "b"]

    row = row_of(5.0)
    assert (row["ratio"], row["ratio_unlike"], row["source"]) == (0.5, apart, "norms")
    assert (row["ratio_most"], row["verdict"]) == (10.0, verdict)
    # Of vectors of length 0.9 no two are twice as far apart as two that are 1 apart.
    assert row_of(0.9)["verdict"] == "open"
    assert row_of(1.0)["verdict"] == verdict
    assert verdict_of(None) == "unknown"


def test_seed_baseline_ratios_at_different_seeds_and_at_most_agree_with_the_vectors():
    vectors = make_vectors()
    row = differences_of(study_of(vectors, RECIPES))["data", "a", "b"]
    unlike = [length(vectors["a", s] - vectors["b", t]) for s in SEEDS for t in SEEDS if s != t]
    most = sum(np.mean([length(vectors[r, s]) for s in SEEDS]) for r in "ab")
    assert row["ratio_unlike"] * row["seed_distance"] == pytest.approx(np.mean(unlike), rel=1e-12)
    assert row["ratio_most"] * row["seed_distance"] == pytest.approx(most, rel=1e-12)


def test_seed_baseline_one_recipe_taken_twice_has_a_ratio_of_one_at_different_seeds():
    vectors = make_vectors({"a": {}, "b": {}})
    vectors |= {("b", seed): vectors["a", seed] for seed in SEEDS}
    row = differences_of(study_of(vectors, {"a": {}, "b": {"data": "D1"}}))["data", "a", "b"]
    assert row["ratio"] == pytest.approx(0, abs=1e-6)
    assert row["ratio_unlike"] == pytest.approx(1, rel=1e-12)


def test_seed_baseline_seeds_in_unrelated_directions_leave_the_question_open():
    # Parts at right angles: 2 |x| over sqrt(2) |x| is below 2, whatever the data do.
    vectors = make_vectors({"a": {}, "b": {}}, size=4000)
    found = seed_baseline.find(study_of(vectors, {"a": {}, "b": {"data": "D1"}}))
    (row,) = found.frames["differences"]
    assert row["ratio_most"] < 2 and row["verdict"] == "open"


SETTINGS = {"a": {"epochs": 3.0, "beta": None, "lora.r": 8}, "b": {"epochs": 2.0, "beta": 0.3,
            "lora.r": 8}, "c": {"epochs": 3.0, "beta": 0.3, "lora.r": 8}}  # fmt: skip


def study_with(recipes, settings):
    tables = study_of(make_vectors(recipes), recipes)
    return Tables.of({"trials": tables["trials"], "pairs": tables["pairs"]}, settings)


def test_seed_baseline_recipes_that_differ_in_a_setting_as_well_say_so():
    recipes = {"a": {}, "b": {"method": "dpo"}}
    found = seed_baseline.find(study_with(recipes, {r: SETTINGS[r] for r in recipes}))
    (row,) = found.frames["differences"]
    # beta is of no use to SFT, and so no difference.
    assert (row["factor"], row["also"]) == ("method", "epochs")


def test_seed_baseline_recipes_that_differ_in_the_factor_alone_are_taken_before_others():
    recipes = {"a": {}, "b": {"method": "dpo"}, "c": {"method": "dpo"}}
    rows = differences_of(study_with(recipes, SETTINGS))
    assert set(rows) == {("method", "a", "c"), ("epochs", "b", "c")}
    assert {row["also"] for row in rows.values()} == {None}


@pytest.mark.parametrize(
    ("norms", "times", "verdict"),
    [
        ((1.0, 1.0, 1.0, 1.0), 1.0, "within"),
        ((1.0, 1.0, 2.0, 2.0), math.inf, "beyond"),
        ((1.0, 3.0, 8.0, 8.0), math.log(4) / math.log(3), "near"),
        ((1.0, 3.0, 50.0, 30.0), math.log(20) / math.log(3), "beyond"),
    ],
)
def test_seed_baseline_norm_verdict_follows_factor_and_spread(norms, times, verdict):
    trials = [trial(r, s, l2, data=r) for (r, s), l2 in zip(itertools.product("ab", (1, 2)), norms,
                                                             strict=True)]  # fmt: skip
    row = differences_of(Tables.of({"trials": trials}))["data", "a", "b"]
    assert row["norm_times"] == pytest.approx(times, rel=1e-12)
    assert row["norm_verdict"] == verdict


def test_seed_baseline_one_seed_says_that_there_is_no_floor():
    tables = Tables.of({"trials": [trial("a"), trial("b", data="D1")],
                        "pairs": [pair(name_of("a", 1), name_of("b", 1), 0.5)]})  # fmt: skip
    found = seed_baseline.find(tables)
    (row,) = found.frames["differences"]
    assert row["distance"] == pytest.approx(1.0, rel=1e-12)
    assert row["norm_spread"] is row["norm_times"] is row["ratio"] is None
    assert (row["verdict"], row["norm_verdict"]) == ("unknown", "unknown")


CROSSED = [Seeds(init, order, init) for init in (1, 2) for order in (1, 2)]


def test_seed_baseline_of_crossed_seeds_is_that_of_seeds_without_a_number_in_common():
    vectors = make_vectors(seeds=CROSSED)
    found = seed_baseline.find(study_of(vectors, RECIPES)).frames
    one, other, third, last = (vectors["a", seed] for seed in CROSSED)
    apart = [length(one - last), length(other - third)]
    baseline = next(row for row in found["floor"] if row["recipe"] == "base.a")
    assert (baseline["seeds"], baseline["seed_pairs"]) == (4, 2)
    assert baseline["seed_distance"] == pytest.approx(np.mean(apart), rel=1e-12)
    row = differences_of(study_of(vectors, RECIPES))["data", "a", "b"]
    like = [length(vectors["a", seed] - vectors["b", seed]) for seed in CROSSED]
    crosswise = ((0, 3), (3, 0), (1, 2), (2, 1))
    unlike = [length(vectors["a", CROSSED[i]] - vectors["b", CROSSED[j]]) for i, j in crosswise]
    assert row["distance"] == pytest.approx(np.mean(like), rel=1e-12)
    expected = np.mean(unlike) / row["seed_distance"]
    assert row["ratio_unlike"] == pytest.approx(expected, rel=1e-12)


def test_seed_baseline_of_seeds_that_all_share_one_number_is_that_of_all():
    seeds = [Seeds(1, order, 1) for order in (1, 2, 3)]
    vectors = make_vectors(seeds=seeds)
    found = seed_baseline.find(study_of(vectors, RECIPES)).frames["floor"]
    assert [row["seed_pairs"] for row in found] == [3, 3, 3]
