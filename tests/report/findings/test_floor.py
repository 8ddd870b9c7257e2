"""Distances, floors and verdicts against the vectors that the tables were made of."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from raylab.report.findings.finding import Tables
from raylab.report.findings.floor import floor, verdict_of
from tests.report.findings.vectors import (
    name_of,
    norm,
    pair,
    pairs_of,
    study_of,
    trial,
    trials_of,
    values_of,
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
    rows = floor(tables).frames["differences"]
    return {(row["factor"], row["a"].split(".")[1], row["b"].split(".")[1]): row for row in rows}


def test_floor_recipes_that_differ_in_one_factor_have_a_row_each_and_no_others():
    assert set(differences_of(study_of(make_vectors(), RECIPES))) == {
        ("data", "a", "b"),
        ("method", "b", "c"),
    }


def test_floor_distances_agree_with_the_vectors():
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


def test_floor_norms_agree_with_the_vectors():
    vectors = make_vectors()
    row = differences_of(study_of(vectors, RECIPES))["method", "b", "c"]
    norms = {recipe: [length(vectors[recipe, s]) for s in SEEDS] for recipe in "bc"}
    factor = np.mean(norms["c"]) / np.mean(norms["b"])
    spread = max(max(found) / min(found) for found in norms.values())
    assert factor > 1
    assert row["norm_factor"] == pytest.approx(factor, rel=1e-12)
    assert row["norm_spread"] == pytest.approx(spread, rel=1e-12)
    assert spread ** row["norm_times"] == pytest.approx(factor, rel=1e-12)


def test_floor_of_a_recipe_agrees_with_the_vectors():
    vectors = make_vectors()
    rows = {row["label"]: row for row in floor(study_of(vectors, RECIPES)).frames["floor"]}
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


def test_floor_independent_parts_of_factor_and_seed_have_the_ratio_of_their_sizes():
    # d^2 = 3 s^2 in 4000 dimensions, where independent parts are at right angles: ratio 2.
    chance, size = np.random.default_rng(2), 4000
    places = {recipe: chance.normal(0, math.sqrt(3), size) for recipe in "ab"}
    vectors = {(r, s): places[r] + chance.normal(0, 1, size) for r in "ab" for s in SEEDS}
    row = differences_of(study_of(vectors, {"a": {}, "b": {"data": "D1"}}))["data", "a", "b"]
    assert row["ratio"] == pytest.approx(2, rel=0.02)


def test_floor_measured_distance_wins_over_a_derived_one():
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


def test_floor_seed_that_one_recipe_lacks_is_left_out_of_the_distance():
    vectors = {key: found for key, found in make_vectors().items() if key != ("b", 2)}
    row = differences_of(study_of(vectors, RECIPES))["data", "a", "b"]
    like = [length(vectors["a", s] - vectors["b", s]) for s in (1, 3)]
    assert (row["seeds"], row["seed_pairs"]) == (2, 4)
    assert row["distance"] == pytest.approx(np.mean(like), rel=1e-12)
    assert row["deviation"] is row["low"] is row["high"] is None


def test_floor_difference_without_a_measured_pair_has_a_row_of_unknowns():
    tables = Tables.of({"trials": trials_of(make_vectors(), RECIPES)})
    row = differences_of(tables)["data", "a", "b"]
    assert row["distance"] is row["seed_distance"] is row["ratio"] is None
    assert (row["seeds"], row["seed_pairs"], row["verdict"]) == (0, 0, "unknown")


@pytest.mark.parametrize(
    ("apart", "verdict"),
    [(1.0, "within"), (1.25, "within"), (1.26, "near"), (1.99, "near"), (2.0, "beyond")],
)
def test_floor_verdict_follows_the_ratio_of_measured_distances(apart, verdict):
    found = {r: [name_of(r, s) for s in (1, 2)] for r in "ab"}
    norms = [norm(*found["a"], 1.0), norm(*found["b"], 1.0)]
    norms += [norm(a, b, apart) for a, b in zip(found["a"], found["b"], strict=True)]
    trials = [trial(r, s, data=r) for r in "ab" for s in (1, 2)]
    row = differences_of(Tables.of({"trials": trials, "norms": norms}))["data", "a", "b"]
    assert (row["ratio"], row["verdict"], row["source"]) == (apart, verdict, "norms")
    assert verdict_of(None) == "unknown"


@pytest.mark.parametrize(
    ("norms", "times", "verdict"),
    [
        ((1.0, 1.0, 1.0, 1.0), 1.0, "within"),
        ((1.0, 1.0, 2.0, 2.0), math.inf, "beyond"),
        ((1.0, 3.0, 8.0, 8.0), math.log(4) / math.log(3), "near"),
        ((1.0, 3.0, 50.0, 30.0), math.log(20) / math.log(3), "beyond"),
    ],
)
def test_floor_norm_verdict_follows_factor_and_spread(norms, times, verdict):
    trials = [trial(r, s, l2, data=r) for (r, s), l2 in zip(itertools.product("ab", (1, 2)), norms,
                                                             strict=True)]  # fmt: skip
    row = differences_of(Tables.of({"trials": trials}))["data", "a", "b"]
    assert row["norm_times"] == pytest.approx(times, rel=1e-12)
    assert row["norm_verdict"] == verdict


def test_floor_one_seed_says_that_there_is_no_floor():
    tables = Tables.of({"trials": [trial("a"), trial("b", data="D1")],
                        "pairs": [pair(name_of("a", 1), name_of("b", 1), 0.5)]})  # fmt: skip
    found = floor(tables)
    assert values_of(found.headline, "floor.one_seed") == [{}]
    (row,) = found.frames["differences"]
    assert row["distance"] == pytest.approx(1.0, rel=1e-12)
    assert row["norm_spread"] is row["norm_times"] is row["ratio"] is None
    assert (row["verdict"], row["norm_verdict"]) == ("unknown", "unknown")


def test_floor_answer_names_the_factors_that_are_mostly_beyond():
    # Data moves models by ten times the seed, the method by as much as the seed.
    found = {r: [name_of(r, s) for s in (1, 2)] for r in "xyz"}
    lengths = {"x": (1.0, 1.1), "y": (10.0, 11.0), "z": (1.0, 1.1)}
    changes = {"x": {}, "y": {"data": "D1"}, "z": {"method": "dpo"}}
    trials = [trial(r, s, lengths[r][s - 1], **changes[r]) for r in "xyz" for s in (1, 2)]
    norms = [norm(*names, 1.0) for names in found.values()]
    norms += [norm(a, b, 10.0) for a, b in zip(found["x"], found["y"], strict=True)]
    norms += [norm(a, b, 1.1) for a, b in zip(found["x"], found["z"], strict=True)]
    headline = floor(Tables.of({"trials": trials, "norms": norms})).headline
    assert values_of(headline, "floor.answer") == [{"far": ("data",), "place": ("data",)}]
    factors = {s.head: s for s in headline if s.key == "floor.factor"}
    data, method = factors["factor.data"], factors["factor.method"]
    assert (data.grade, method.grade) == ("good", "bad")
    assert data.values["place"].values["verdicts"] == (("beyond", 1, 1),)
    assert method.values["place"].values["verdicts"] == (("within", 1, 1),)
    assert data.values["norm"].values["low"] == pytest.approx(10, rel=1e-12)
    assert data.values["norm"].values["spread"] == pytest.approx(1.1, rel=1e-12)
