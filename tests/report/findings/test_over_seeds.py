"""The tables of norms by pair and seed against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from raylab.report.findings.finding import Tables
from raylab.report.findings.over_seeds import seeds
from tests.report.findings.vectors import BASE, name_of, norm, trial, values_of


def tables_of(values, **of_pair):
    """One data pair, x of D0 and y of D1, with an L2 by seed; None where it was not compared."""
    trials = [
        trial(recipe, seed, data=data, **of_pair)
        for seed in values
        for recipe, data in (("x", "D0"), ("y", "D1"))
    ]
    norms = [
        norm(name_of("x", seed), name_of("y", seed), l2, l1=10 * l2)
        for seed, l2 in values.items()
        if l2 is not None
    ]
    return {"trials": trials, "norms": norms}


def only_row(values):
    (row,) = seeds(Tables.of(tables_of(values))).frames["seeds_like"]
    return row


@pytest.mark.parametrize(
    ("l2", "verdict", "grade"),
    [
        (4.0, "stable", "good"),
        (5.0, "stable", "good"),
        (5.001, "varies", "fair"),
        (8.0, "varies", "fair"),
        (8.001, "seed", "bad"),
        (3.19, "varies", "fair"),
    ],
)
def test_seeds_verdict_follows_the_larger_over_the_smaller(l2, verdict, grade):
    found = seeds(Tables.of(tables_of({1: 4.0, 2: l2})))
    (row,) = found.frames["seeds_like"]
    assert row["verdict"] == verdict
    assert row["ratio"] == pytest.approx(max(l2 / 4, 4 / l2), rel=1e-12)
    assert [(s.key, s.grade) for s in found.sentences] == [(f"seeds.{verdict}", grade)]


def test_seeds_three_have_mean_deviation_and_interval():
    row = only_row({1: 2.0, 2: 4.0, 3: 9.0})
    assert row["mean"] == 5.0
    assert row["deviation"] == pytest.approx(math.sqrt((9 + 1 + 16) / 2), rel=1e-12)
    assert (row["low"], row["high"]) == pytest.approx((2.0, 9.0), rel=1e-12)
    assert (row["ratio"], row["verdict"]) == (4.5, "seed")
    assert [row[f"l2_s{seed}"] for seed in (1, 2, 3)] == [2.0, 4.0, 9.0]
    assert [row[f"l1_s{seed}"] for seed in (1, 2, 3)] == [20.0, 40.0, 90.0]


def test_seeds_two_have_a_ratio_and_no_mean():
    row = only_row({1: 2.0, 2: 3.0})
    assert row["mean"] is row["deviation"] is row["low"] is row["high"] is None
    assert row["ratio"] == 1.5


def test_seeds_one_that_was_not_compared_is_none_and_counted():
    found = seeds(Tables.of(tables_of({1: 2.0, 2: None, 3: 3.0})))
    (row,) = found.frames["seeds_like"]
    assert (row["l2_s2"], row["l1_s2"], row["mean"], row["ratio"]) == (None, None, None, 1.5)
    (values,) = values_of(found.sentences, "seeds.varies")
    assert (values["measured"], values["seeds"]) == (2, 3)
    assert values["l2"] == ((1, 2.0), (2, None), (3, 3.0))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({1: 2.0}, "one_seed"),
        ({1: 2.0, 2: None}, "some_seeds"),
        ({1: 0.0, 2: 1.0}, "zero"),
        ({1: 2.0, 2: math.nan}, "some_seeds"),
    ],
)
def test_seeds_without_a_ratio_say_why(values, verdict):
    row = only_row(values)
    assert (row["ratio"], row["verdict"]) == (None, verdict)


def test_seeds_learning_rate_of_one_method_is_a_group_of_its_own():
    shared = tables_of({1: 1.0, 2: 1.1})
    for method, rate, recipes in (("dpo", 1e-5, "pq"), ("sft", 1e-4, "vw")):
        for seed in (1, 2):
            shared["trials"] += [
                trial(r, seed, data=d, method=method, learning_rate=rate)
                for r, d in zip(recipes, ("D0", "D1"), strict=True)
            ]
            shared["norms"].append(norm(*(name_of(r, seed) for r in recipes), 3.0))
    frames = seeds(Tables.of(shared)).frames
    assert [row["pair"] for row in frames["seeds_like"]] == ["X vs Y", "P vs Q"]
    unlike = [(row["group"], row["pair"], row["learning_rate"]) for row in frames["seeds_unlike"]]
    assert unlike == [(1, "V vs W", 1e-4), (1, "P vs Q", 1e-5)]


def test_seeds_comparisons_that_are_no_data_pairs_are_counted():
    found = tables_of({1: 1.0, 2: 1.1})
    found["norms"] += [norm(name_of("x", seed), BASE, 1.0) for seed in (1, 2)]
    found["norms"].append(norm(name_of("x", 1), name_of("y", 2), 1.0))
    assert values_of(seeds(Tables.of(found)).sentences, "seeds.others") == [{"count": 3}]


def test_seeds_of_no_comparison_say_nothing():
    (sentence,) = seeds(Tables.of({"trials": [trial("x")]})).sentences
    assert sentence.key == "seeds.nothing"


def test_seeds_caveats_name_the_marked_models_of_the_pairs_alone():
    found = tables_of({1: 1.0, 2: 1.1})
    found["trials"][0]["marked"] = True
    found["trials"].append(trial("other", 1, data="D0", method="dpo", marked=True))
    (values,) = values_of(seeds(Tables.of(found)).caveats, "caveat.marked")
    assert values == {"count": 1, "total": 4, "names": (name_of("x", 1),)}
