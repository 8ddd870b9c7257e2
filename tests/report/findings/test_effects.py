"""Effects against means that are taken by loops over models made for the purpose."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from raylab.report.findings import effects, trained_models
from raylab.report.findings.seed_baseline import verdict_of
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from tests.report.findings.vectors import (
    BASE,
    cosine_of,
    name_of,
    pair,
    pairs_of,
    trial,
    trials_of,
    values_of,
)

RECIPES = {
    "a": {"method": "sft", "data": "D0"},
    "b": {"method": "sft", "data": "D1"},
    "c": {"method": "sft", "data": "D2"},
    "d": {"method": "dpo", "data": "D0"},
}


def models(recipes=RECIPES, seeds=(1, 2), seed=5):
    """A vector for each model: what its recipe does, and what its seed adds."""
    chance = np.random.default_rng(seed)
    places = {r: chance.normal(0, 3, 30) * (1 + n) for n, r in enumerate(recipes)}
    return {(r, s): places[r] + chance.normal(0, 1, 30) for r in recipes for s in seeds}


def function_row(one, other, kl_ab, kl_ba, tokens=10, **changes):
    row = {"a": name_of(*one), "b": name_of(*other), "data": "D0", "answers": "held_out",
           "prompts": 2, "tokens": tokens, "kl_ab": kl_ab, "kl_ba": kl_ba}  # fmt: skip
    return row | changes


def subspace_row(one, other, overlap, chance=0.05, **changes):
    row = {"a": name_of(*one), "b": name_of(*other), "view": "delta", "level": "all",
           "key": "all", "side": "output", "energy": 1.0, "overlap": overlap,
           "chance": chance}  # fmt: skip
    return row | changes


def kl_of(vectors, one, other):
    """A made-up divergence that is not symmetric, out of the vectors."""
    return float(np.mean((vectors[one] - vectors[other]) ** 2)) * (2 if one < other else 1)


def overlap_of(vectors, one, other):
    return 0.05 + 0.9 / (1 + float(np.mean((vectors[one] - vectors[other]) ** 2)))


def tables_of(vectors, recipes=RECIPES, **more):
    pairs = list(itertools.combinations(vectors, 2))
    functions = []
    for one, other in pairs:
        ab, ba = kl_of(vectors, one, other), kl_of(vectors, other, one)
        functions += [
            function_row(one, other, ab, ba, 10, data="D0"),
            function_row(one, other, 3 * ab, 3 * ba, 30, data="D1"),
            function_row(one, other, 99.0, 99.0, 30, answers="own"),
        ]
    subspaces = []
    for one, other in pairs:
        subspaces += [
            subspace_row(one, other, overlap_of(vectors, one, other)),
            subspace_row(one, other, 0.9, side="input"),
            subspace_row(one, other, 0.9, energy=0.9),
            subspace_row(one, other, 0.9, level="layer", key="0"),
        ]
    tables = {
        "trials": trials_of(vectors, recipes),
        "pairs": pairs_of(vectors),
        "functions": functions,
        "subspaces": subspaces,
    }
    return Tables.of(tables | more)


def effects_of(tables, frame="effects"):
    rows = effects.find(tables).frames[frame]
    return {(row["factor"], row["space"]): row for row in rows}


def by_hand(vectors, value, between, recipes):
    """(mean of pairs of two recipes, mean of pairs of one), all at unlike seeds."""
    effect = [
        value((a, s), (b, t))
        for a, b in between
        for (r, s), (q, t) in itertools.product(vectors, vectors)
        if (r, q) == (a, b) and s != t
    ]
    baseline = [
        value((r, s), (r, t))
        for r in recipes
        for s, t in itertools.combinations(sorted({s for q, s in vectors if q == r}), 2)
    ]
    return float(np.mean(effect)), float(np.mean(baseline)), len(effect), len(baseline)


DATA_PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]


def test_effect_of_norms_is_the_mean_log_ratio_at_unlike_seeds():
    vectors = models()

    def ratio(one, other):
        norms = [math.sqrt(sum(x * x for x in vectors[key])) for key in (one, other)]
        return abs(math.log(norms[0]) - math.log(norms[1]))

    effect, baseline, pairs, seed_pairs = by_hand(vectors, ratio, DATA_PAIRS, "abc")
    row = effects_of(tables_of(vectors))["data", "far"]
    assert (row["pairs"], row["seed_pairs"], row["differences"]) == (pairs, seed_pairs, 3)
    assert row["effect"] == pytest.approx(effect, rel=1e-9)
    assert row["baseline"] == pytest.approx(baseline, rel=1e-9)
    assert row["times"] == pytest.approx(effect / baseline, rel=1e-9)
    assert row["chance"] is None


def test_effect_of_functions_is_the_mean_divergence_by_tokens_of_both_directions():
    vectors = models()

    def divergence(one, other):
        both = (kl_of(vectors, one, other) + kl_of(vectors, other, one)) / 2
        return (10 * both + 30 * 3 * both) / 40

    effect, baseline, *_ = by_hand(vectors, divergence, [("a", "d")], "ad")
    row = effects_of(tables_of(vectors))["method", "function"]
    assert row["effect"] == pytest.approx(effect, rel=1e-9)
    assert row["baseline"] == pytest.approx(baseline, rel=1e-9)
    assert row["times"] == pytest.approx(effect / baseline, rel=1e-9)
    like = np.mean([divergence(("a", s), ("d", s)) for s in (1, 2)])
    assert row["like"] == pytest.approx(like, rel=1e-9)


def test_effect_of_output_sides_is_what_seeds_share_beyond_chance():
    vectors = models()
    found = by_hand(vectors, lambda x, y: overlap_of(vectors, *sorted((x, y))), DATA_PAIRS, "abc")
    row = effects_of(tables_of(vectors))["data", "where"]
    assert (row["effect"], row["baseline"]) == pytest.approx(found[:2], rel=1e-9)
    assert (row["chance"], row["effect_chance"]) == pytest.approx((0.05, 0.05), rel=1e-12)
    assert row["times"] == pytest.approx((found[1] - 0.05) / (found[0] - 0.05), rel=1e-9)


def test_effect_of_recipes_that_share_nothing_beyond_chance_has_no_bound():
    vectors = models({"a": {}, "b": {}})
    rows = [
        subspace_row(one, other, 0.3 if one[0] == other[0] else 0.04)
        for one, other in itertools.combinations(vectors, 2)
    ]
    recipes = {"a": {}, "b": {"data": "D1"}}
    row = effects_of(tables_of(vectors, recipes, subspaces=rows))["data", "where"]
    assert (row["times"], row["verdict"]) == (math.inf, "beyond")
    found = effects.find(tables_of(vectors, recipes, subspaces=rows))
    text = " ".join(map(translator("en").sentence, found.sentences))
    assert "data (∞×)" in text


def test_effect_where_seeds_share_nothing_beyond_chance_is_unknown():
    vectors = models({"a": {}, "b": {}})
    rows = [subspace_row(x, y, 0.05) for x, y in itertools.combinations(vectors, 2)]
    recipes = {"a": {}, "b": {"data": "D1"}}
    row = effects_of(tables_of(vectors, recipes, subspaces=rows))["data", "where"]
    assert (row["times"], row["verdict"]) == (None, "unknown")


def test_effect_of_equal_models_is_once_the_seed():
    vectors = dict.fromkeys(models(), np.ones(4))
    row = effects_of(tables_of(vectors))["data", "function"]
    assert (row["effect"], row["baseline"], row["times"]) == (0, 0, 1)
    assert row["verdict"] == "within"


def test_effect_that_was_not_measured_has_a_row_of_nothing():
    tables = tables_of(models(), functions=[], subspaces=[])
    for space in ("where", "function"):
        row = effects_of(tables)["data", space]
        assert row["effect"] is row["times"] is row["p"] is None
        assert row["chance"] is row["effect_chance"] is None
        assert (row["pairs"], row["verdict"]) == (0, "unknown")


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_effect_leaves_out_pairs_whose_divergence_is_no_number(value):
    vectors = models()
    tables = tables_of(vectors)
    rows = [dict(row) for row in tables["functions"]]
    broken = {name_of("a", 1), name_of("b", 2)}
    for row in rows:
        if {row["a"], row["b"]} == broken and row["data"] == "D1":
            row["kl_ab"] = value
    whole = effects_of(tables)["data", "function"]
    found = effects_of(tables_of(vectors, functions=rows))["data", "function"]
    assert found["pairs"] == whole["pairs"] - 1
    assert math.isfinite(found["effect"])


def test_effects_of_two_seeds_are_descriptive():
    for row in effects_of(tables_of(models())).values():
        assert row["basis"] in ("descriptive", None)
        assert row.get("p") is row.get("p_adjusted") is None
    found = effects.find(tables_of(models()))
    assert values_of(found.sentences, "effects-descriptive") == [{"seeds": 3}]


def test_effects_of_one_pair_and_three_seeds_say_that_no_test_can_tell():
    recipes = {"a": {}, "b": {"data": "D1"}}
    found = effects.find(tables_of(models(recipes, (1, 2, 3)), recipes))
    rows = [row for row in found.frames["effects"] if row["factor"] == "data"]
    measured = [row for row in rows if row["space"] != "delta"]
    assert {row["p_least"] for row in measured} == {0.25}
    assert {row["basis"] for row in measured} == {"descriptive"}
    assert values_of(found.cautions, "effects-too_few") == [{"least": 0.25}]


def test_effects_of_many_seeds_rest_on_permutations_corrected_over_factors():
    vectors = models(seeds=range(6), seed=8)
    found = effects_of(tables_of(vectors))
    rows = [found["method", "function"], found["data", "function"]]
    assert all(row["basis"] == "permutation" for row in rows)
    adjusted = multipletests([row["p"] for row in rows], method="holm")[1]
    assert [row["p_adjusted"] for row in rows] == pytest.approx(list(adjusted), rel=1e-12)
    # Two recipes and six seeds: 2^6 permutations, of which 2 are the observed one.
    assert rows[0]["p_least"] == pytest.approx(2**-5, rel=1e-12)
    assert rows[0]["p"] == pytest.approx(2**-5, rel=1e-12)


def test_effects_of_labels_without_meaning_are_within_the_seed():
    chance = np.random.default_rng(21)
    recipes = {"a": {}, "b": {"data": "D1"}}
    vectors = {(r, s): chance.normal(0, 1, 30) for r in recipes for s in range(8)}
    row = effects_of(tables_of(vectors, recipes))["data", "function"]
    assert row["basis"] == "permutation" and row["p_adjusted"] > 0.05
    assert row["verdict"] == "within"


def test_effects_permutation_agrees_with_flips_made_by_hand():
    recipes = {"a": {}, "b": {"data": "D1"}}
    vectors = models(recipes, range(6), seed=4)
    row = effects_of(tables_of(vectors, recipes))["data", "function"]

    def apart(first, second):
        """first, second: the six models of each label, by seed."""
        value = lambda x, y: (kl_of(vectors, x, y) + kl_of(vectors, y, x)) / 2 * 2.5  # noqa: E731
        seeds = list(itertools.permutations(range(6), 2))
        between = [value(first[s], second[t]) for s, t in seeds]
        within = [value(m[s], m[t]) for m in (first, second) for s, t in seeds]
        return np.mean(between) - np.mean(within)

    pairs = [(("a", s), ("b", s)) for s in range(6)]
    observed = apart([a for a, _ in pairs], [b for _, b in pairs])
    flips = []
    for flip in itertools.product((False, True), repeat=6):
        turned = [pair[::-1] if turn else pair for pair, turn in zip(pairs, flip, strict=True)]
        flips.append(apart([a for a, _ in turned], [b for _, b in turned]))
    expected = np.mean([value >= observed - 1e-9 for value in flips])
    assert row["p"] == pytest.approx(expected, rel=1e-12)


def test_effect_pairs_have_a_row_for_each_two_recipes_and_space():
    found = effects.find(tables_of(models())).frames["effect_pairs"]
    assert len(found) == 4 * 4
    row = next(r for r in found if (r["label"], r["space"]) == ("A vs D", "function"))
    whole = effects_of(tables_of(models()))["method", "function"]
    assert (row["effect"], row["baseline"]) == (whole["effect"], whole["baseline"])


def test_effects_of_tied_seeds_say_that_they_are_tied():
    found = effects.find(tables_of(models()))
    assert values_of(found.cautions, "effects-tied") == [{}]
    row = effects_of(tables_of(models()))["seed", "function"]
    assert (row["verdict"], row["times"]) == ("baseline", None)
    assert row["effect"] == row["baseline"]


CROSSED = [(1, 1), (1, 2), (2, 1), (2, 2)]
"""Seeds of the start and of the order; dropout follows the start."""


def crossed_study(size=60):
    """Two recipes, the second crossed; the start moves a model by 3, the order by 1."""
    chance = np.random.default_rng(12)
    place = {recipe: chance.normal(0, 2, size) for recipe in "ab"}
    start = {seed: chance.normal(0, 3, size) for seed in (1, 2)}
    order = {seed: chance.normal(0, 1, size) for seed in (1, 2)}
    vectors, trials = {}, []
    for recipe, seeds in (("a", [(1, 1), (2, 2)]), ("b", CROSSED)):
        for init, rows in seeds:
            name = f"s{init}" if init == rows else f"s{init}o{rows}"
            vector = place[recipe] + start[init] + order[rows]
            vectors[f"{BASE}.{recipe}.{name}"] = vector
            row = trial(recipe, init, float(np.linalg.norm(vector)), data=recipe)
            row |= {"name": f"{BASE}.{recipe}.{name}", "seed": init if init == rows else None}
            trials.append(row | {"seed_init": init, "seed_order": rows, "seed_dropout": init})
    pairs = [
        pair(one, other, cosine_of(vectors[one], vectors[other]))
        for one, other in itertools.combinations(vectors, 2)
    ]
    return vectors, Tables.of({"trials": trials, "pairs": pairs})


def length(vectors, one, other):
    return float(np.linalg.norm(vectors[f"{BASE}.{one}"] - vectors[f"{BASE}.{other}"]))


def test_effects_of_crossed_seeds_say_how_much_of_the_seed_each_part_is():
    vectors, tables = crossed_study()
    found = effects_of(tables)
    whole = [("b.s1", "b.s2"), ("b.s1o2", "b.s2o1")]
    apart = {
        "seed_order": [("b.s1", "b.s1o2"), ("b.s2", "b.s2o1")],
        "seed_init+seed_dropout": [("b.s1", "b.s2o1"), ("b.s2", "b.s1o2")],
    }
    baseline = np.mean([length(vectors, *one) for one in whole])
    for factor, pairs in apart.items():
        row = found[factor, "delta"]
        effect = np.mean([length(vectors, *one) for one in pairs])
        assert row["effect"] == pytest.approx(effect, rel=1e-9)
        assert row["baseline"] == pytest.approx(baseline, rel=1e-9)
        assert row["pairs"] == len(pairs)
    every = np.mean([length(vectors, *one) for one in [("a.s1", "a.s2"), *whole]])
    assert found["seed", "delta"]["effect"] == pytest.approx(every, rel=1e-9)
    assert found["seed", "delta"]["verdict"] == "baseline"
    assert found["seed_init+seed_dropout", "delta"]["verdict"] == "most"
    assert found["seed_order", "delta"]["verdict"] == "part"


def test_effects_of_crossed_seeds_count_overlaps_of_a_part_as_less_of_the_seed():
    _, tables = crossed_study()
    overlaps = {("seed_order",): 0.8, ("seed_init", "seed_dropout"): 0.29}
    models = trained_models.models_of(tables)
    rows = [
        {"a": a.name, "b": b.name, "view": "delta", "level": "all", "key": "all",
         "side": "output", "energy": 1.0, "chance": 0.05,
         "overlap": overlaps.get(trained_models.differing_parts(a, b), 0.25)}
        for a, b in itertools.combinations(models, 2)
    ]  # fmt: skip
    found = effects_of(Tables.of({"trials": tables["trials"], "subspaces": rows}))
    order, start = found["seed_order", "where"], found["seed_init+seed_dropout", "where"]
    assert order["times"] == pytest.approx(0.2 / 0.75, rel=1e-12)
    assert start["times"] == pytest.approx(0.2 / 0.24, rel=1e-12)
    assert (order["verdict"], start["verdict"]) == ("part", "most")


def test_effects_of_whole_deltas_are_taken_between_models_that_share_the_start():
    vectors, tables = crossed_study()
    row = effects_of(tables)["data", "delta"]
    between = [("a.s1", "b.s1o2"), ("a.s2", "b.s2o1")]
    within = [("b.s1", "b.s1o2"), ("b.s2", "b.s2o1")]
    effect, baseline = (
        np.mean([length(vectors, *p) for p in pairs]) for pairs in (between, within)
    )
    assert (row["effect"], row["baseline"]) == pytest.approx((effect, baseline), rel=1e-9)
    assert row["times"] == pytest.approx(effect / baseline, rel=1e-9)


def test_effects_of_crossed_seeds_compare_recipes_at_seeds_that_differ_in_everything():
    _, tables = crossed_study()
    row = effects_of(tables)["data", "far"]
    # a.s1 with b.s2 and b.s2o1 has another start; only b.s2 and b.s1 differ in the order as well.
    assert (row["pairs"], row["seed_pairs"]) == (2, 3)


def test_effects_of_crossed_seeds_are_not_tied_and_have_words():
    _, tables = crossed_study()
    found = effects.find(tables)
    assert values_of(found.sentences, "effects-tied") == []
    parts = values_of(found.sentences, "effects-seed_part")
    assert {part["part"] for part in parts} == {"seed_order", "seed_init+seed_dropout"}
    for sentence in found.sentences:
        for language in ("en", "ja"):
            assert translator(language).whole_sentence(sentence)


@pytest.mark.parametrize(
    ("times", "verdict"),
    [(None, "unknown"), (0.3, "within"), (1.25, "within"), (1.26, "near"), (2.0, "beyond"),
     (math.inf, "beyond")],
)  # fmt: skip
def test_effect_verdict_follows_times(times, verdict):
    assert verdict_of(times) == verdict


def test_effects_of_one_seed_say_that_nothing_can_be_told():
    found = effects.find(tables_of(models(seeds=(1,))))
    assert values_of(found.cautions, "floor-one_seed") == [{"seed": 1}]
    assert {row["verdict"] for row in found.frames["effects"]} == {"unknown"}


def test_effects_within_the_seed_everywhere_are_inconclusive_and_say_what_settles_it():
    chance = np.random.default_rng(0)
    recipes = {"a": {}, "b": {"data": "D1"}}
    vectors = {(r, s): chance.normal(0, 1, 4000) for r in recipes for s in (1, 2)}
    rows = [subspace_row(x, y, 0.3) for x, y in itertools.combinations(vectors, 2)]
    trials = [row | {"l2": 1.0} for row in trials_of(vectors, recipes)]
    found = effects.find(tables_of(vectors, recipes, subspaces=rows, trials=trials))
    (sentence,) = found.details
    assert sentence.values["settle"].key == "effects-settle-all"
    for language in ("en", "ja"):
        assert translator(language).sentence(sentence)


def test_effects_have_words_in_both_languages():
    for seeds in ((1, 2), range(6)):
        found = effects.find(tables_of(models(seeds=seeds)))
        for sentence in found.sentences:
            for language in ("en", "ja"):
                assert translator(language).whole_sentence(sentence)
