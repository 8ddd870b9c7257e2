"""Shares of planted effects against sums of squares of logarithms, worked out by contrasts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from raylab.report.findings import attribution
from raylab.report.study_tables import Tables
from raylab.spec.seeds import Seeds
from tests.report.findings.vectors import (
    BASE,
    cosine_of,
    name_of,
    norm,
    pair,
    pairs_of,
    trial,
    trials_of,
    values_of,
)

METHODS, DATA, SEEDS = ("sft", "dpo"), ("D0", "D1"), (1, 2)
EFFECTS = {"method": 3.0, "data": 1.5, "seed": 1.1}
NOISE = (1.02, 0.97, 1.01, 0.99, 0.98, 1.03, 1.04, 0.96)
CELLS = tuple(itertools.product(METHODS, DATA, SEEDS))


def planted(noise=NOISE, effects=EFFECTS):
    """By method, data and seed: a norm that every factor multiplies, and some noise."""
    return {
        (m, d, s): 2.0
        * effects["method"] ** METHODS.index(m)
        * effects["data"] ** DATA.index(d)
        * effects["seed"] ** SEEDS.index(s)
        * more
        for (m, d, s), more in zip(CELLS, noise, strict=True)
    }


def recipe_of(method, data):
    return f"{method}-{data}"


def trials_with(norms):
    return [
        trial(recipe_of(m, d), s, l2, method=m, data=d, label=f"{m}({d})")
        for (m, d, s), l2 in norms.items()
    ]


def rows_of(tables, response="log_l2", level="all", key="all"):
    wanted = (response, level, key)
    return {
        row["factor"]: row
        for row in attribution.find(tables).frames["attribution"]
        if (row["response"], row["level"], row["key"]) == wanted
    }


def contrasts(values):
    """SS of each factor of a balanced 2 x 2 x 2 design, and the total: (sum of +-y)^2 / 8."""
    signs = np.array([[1 if x == levels[1] else -1
                       for x, levels in zip(cell, (METHODS, DATA, SEEDS), strict=True)]
                      for cell in CELLS])  # fmt: skip
    y = np.array([values[cell] for cell in CELLS])
    return (signs.T @ y) ** 2 / 8, float(y @ y - 8 * np.mean(y) ** 2)


def test_attribution_planted_effects_have_the_shares_of_their_contrasts():
    norms = planted()
    rows = rows_of(Tables.of({"trials": trials_with(norms)}))
    squares, total = contrasts({cell: math.log(l2) for cell, l2 in norms.items()})
    residual = total - squares.sum()
    for name, ss in zip(EFFECTS, squares, strict=True):
        row = rows[name]
        assert row["sum_squares"] == pytest.approx(ss, rel=1e-9)
        assert row["share"] == pytest.approx(ss / total, rel=1e-9)
        assert row["partial_share"] == pytest.approx(ss / (ss + residual), rel=1e-9)
        assert (row["df"], row["residual_df"], row["observations"]) == (1, 4, 8)
        assert row["low"] <= row["partial_share"] <= row["high"]
    assert rows["residual"]["share"] == pytest.approx(residual / total, rel=1e-9)
    assert rows["unassigned"]["share"] == pytest.approx(0, abs=1e-12)
    assert set(rows) == {*EFFECTS, "residual", "unassigned"}


def test_attribution_hardly_any_noise_shares_are_squared_logarithms():
    # The noise is an interaction of all three, at right angles to each: SS = 8 (log(effect) / 2)^2.
    norms = planted([math.exp(1e-3 * sign) for sign in (1, -1, -1, 1, -1, 1, 1, -1)])
    rows = rows_of(Tables.of({"trials": trials_with(norms)}))
    squares = {name: 2 * math.log(effect) ** 2 for name, effect in EFFECTS.items()}
    for name, ss in squares.items():
        assert rows[name]["sum_squares"] == pytest.approx(ss, rel=1e-9)
        assert rows[name]["share"] == pytest.approx(ss / (sum(squares.values()) + 8e-6), rel=1e-9)


def test_attribution_headline_lists_factors_from_the_largest_share_on():
    found = attribution.find(Tables.of({"trials": trials_with(planted())}))
    (values,) = values_of(found.sentences, "attribution-shares")
    assert [name for name, _ in values["parts"]] == ["method", "data", "seed"]
    (constant,) = values_of(found.sentences, "attribution-constant")
    assert constant["factors"] == ("learning_rate", "parent")


def test_attribution_seeds_of_equal_bits_do_not_stop_the_report():
    # The seed changes nothing: the rest beside method and data is rounding.
    norms = planted([1.0] * 8, EFFECTS | {"seed": 1.0})
    rows = rows_of(Tables.of({"trials": trials_with(norms)}))
    assert rows["seed"]["share"] == pytest.approx(0, abs=1e-12)
    assert rows["method"]["share"] + rows["data"]["share"] == pytest.approx(1, abs=1e-12)


def test_attribution_parents_of_dpo_are_one_row_with_the_method():
    recipes = [("sft", None), ("dpo", None), ("dpo", "base.p")]
    trials = [
        trial(f"{m}-{p}-{d}", s, 1 + 2 * i + j + 0.1 * s * (i + 2 * j + 1), method=m, data=d,
              parent=f"{p}.s{s}" if p else None)
        for (i, (m, p)), (j, d), s in itertools.product(
            enumerate(recipes), enumerate(DATA), SEEDS)
    ]  # fmt: skip
    found = attribution.find(Tables.of({"trials": trials}))
    factors = {row["factor"]: row.get("df") for row in found.frames["attribution"]}
    assert set(factors) == {"method+parent", "data", "seed", "residual", "unassigned"}
    assert (factors["method+parent"], factors["data"], factors["seed"]) == (2, 1, 1)
    (values,) = values_of(found.sentences, "attribution-inseparable")
    assert values == {"model": BASE, "factors": ("method", "parent")}


def test_attribution_relative_norms_and_layers_have_responses_of_their_own():
    norms = planted()
    layers = planted(NOISE[::-1], {"method": 1.2, "data": 4.0, "seed": 1.3})
    rows = []
    for (m, d, s), l2 in norms.items():
        name = name_of(recipe_of(m, d), s)
        rows.append(norm(name, BASE, l2, relative_l2=l2 / 50))
        rows.append(norm(name, BASE, layers[m, d, s], level="layer", key="3"))
    tables = Tables.of({"trials": trials_with(norms), "norms": rows})
    whole, relative = rows_of(tables), rows_of(tables, "log_relative_l2")
    layer = rows_of(tables, "log_l2", "layer", "3")
    squares, total = contrasts({cell: math.log(l2) for cell, l2 in layers.items()})
    for name, ss in zip(EFFECTS, squares, strict=True):
        assert relative[name]["share"] == pytest.approx(whole[name]["share"], rel=1e-9)
        assert layer[name]["share"] == pytest.approx(ss / total, rel=1e-9)
    assert rows_of(tables, "log_relative_l2", "layer", "3") == {}
    lacking = Tables.of({"trials": trials_with(norms), "norms": rows[:-1]})
    assert rows_of(lacking, "log_l2", "layer", "3") == {}


def cosine_study(densities):
    chance = np.random.default_rng(4)
    vectors = {(r, s): chance.normal(0, 1, 9) for r in "abc" for s in SEEDS}
    recipes = {"a": {}, "b": {"data": "D1"}, "c": {"method": "dpo"}}
    rows = [row | {"density": d} for row in pairs_of(vectors) for d in densities]
    return vectors, Tables.of({"trials": trials_of(vectors, recipes), "pairs": rows})


def test_attribution_cosines_are_one_observation_a_pair_for_any_densities():
    vectors, tables = cosine_study((0.1, 0.2, 0.5))
    rows, once = rows_of(tables, "cosine"), rows_of(cosine_study((0.1,))[1], "cosine")
    assert {row["observations"] for row in rows.values()} == {math.comb(6, 2)}
    assert rows == once
    chosen = list(itertools.combinations(vectors, 2))
    y = np.array([cosine_of(vectors[i], vectors[j]) for i, j in chosen])
    same = {
        # Data is varied within one method alone, so that pairs agree in both or in neither.
        "method+data": [i[0] == j[0] for i, j in chosen],
        "seed": [i[1] == j[1] for i, j in chosen],
    }
    assert set(rows) == {*same, "residual", "unassigned"}

    def left(names):
        design = np.column_stack([np.ones(len(y)), *(np.array(same[n], float) for n in names)])
        return float(np.sum((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2))

    total = float(np.sum((y - y.mean()) ** 2))
    for name in same:
        beyond = left([n for n in same if n != name]) - left(same)
        assert rows[name]["share"] == pytest.approx(beyond / total, rel=1e-9, abs=1e-12)
        assert rows[name]["low"] is rows[name]["high"] is rows[name]["partial_share"] is None
    assert rows["residual"]["share"] == pytest.approx(left(same) / total, rel=1e-9)


def test_attribution_cosines_of_other_views_and_models_are_left_out():
    vectors, tables = cosine_study((0.1,))
    more = [
        pair(name_of("a", 1), "elsewhere", 0.9),
        pair(name_of("a", 1), name_of("b", 1), 0.9, view="merged"),
    ]
    wider = Tables.of({"trials": tables["trials"], "pairs": [*tables["pairs"], *more]})
    assert len(vectors) == 6
    assert rows_of(wider, "cosine") == rows_of(tables, "cosine")


def test_attribution_of_one_model_says_that_nothing_varies():
    found = attribution.find(Tables.of({"trials": [trial("a")]}))
    assert found.frames["attribution"] == []
    assert values_of(found.sentences, "attribution-nothing") == [{}]


def test_attribution_of_crossed_seeds_has_a_factor_for_each_that_can_be_told_apart():
    effects, chance = {"init": 3.0, "order": 1.5}, np.random.default_rng(7)
    crossed = [Seeds(init, order, init) for init in (1, 2) for order in (1, 2)]
    rows = []
    for recipe, data in (("a", "D0"), ("b", "D1")):
        for seed in crossed:
            l2 = effects["init"] ** seed.init * effects["order"] ** seed.order
            rows.append(trial(recipe, seed, l2 * chance.uniform(0.99, 1.01), data=data))
    found = attribution.find(Tables.of({"trials": rows})).frames["attribution"]
    shares = {row["factor"]: row["share"] for row in found if row["response"] == "log_l2"}
    total = sum(np.log(value) ** 2 for value in effects.values())
    assert shares.keys() == {
        "data", "seed_init+seed_dropout", "seed_order", "residual", "unassigned",
    }  # fmt: skip
    assert shares["seed_init+seed_dropout"] == pytest.approx(np.log(3) ** 2 / total, abs=0.02)
    assert shares["seed_order"] == pytest.approx(np.log(1.5) ** 2 / total, abs=0.02)
