"""Shares of variance against Montgomery's battery life, numpy projections and statsmodels."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from raylab.report.findings.variance import analyse

# Montgomery, Design and Analysis of Experiments, table 5.1: hours of life by material (rows) and
# temperature (columns), four batteries each.
BATTERIES = (
    ((130, 155, 74, 180), (34, 40, 80, 75), (20, 70, 82, 58)),
    ((150, 188, 159, 126), (136, 122, 106, 115), (25, 70, 58, 45)),
    ((138, 110, 168, 160), (174, 120, 150, 139), (96, 104, 82, 60)),
)


def batteries():
    cells = [
        (material, temperature, hours)
        for material, row in enumerate(BATTERIES)
        for temperature, cell in enumerate(row)
        for hours in cell
    ]
    materials, temperatures, lives = zip(*cells, strict=True)
    return {"material": materials, "temperature": temperatures}, lives


def unexplained(columns, y):
    """The sum of squares beside an additive model, by projection onto its column space."""
    design = np.column_stack(
        [np.ones(len(y))]
        + [np.equal(column, level) for column in columns for level in sorted(set(column))]
    ).astype(float)
    left, sizes, _ = np.linalg.svd(design, full_matrices=False)
    basis = left[:, sizes > 1e-9 * sizes[0]]
    return float(np.sum((y - basis @ (basis.T @ y)) ** 2)), basis.shape[1]


def test_analyse_battery_life_gives_montgomerys_sums_of_squares():
    found = analyse(*batteries())
    material, temperature = found.parts
    assert (material.group, temperature.group) == (("material",), ("temperature",))
    assert (material.df, temperature.df, found.residual_df) == (2, 2, 31)
    assert material.sum_squares == pytest.approx(10683.72, abs=0.006)
    assert temperature.sum_squares == pytest.approx(39118.72, abs=0.006)
    assert found.total == pytest.approx(77646.97, abs=0.006)
    assert found.residual_share == pytest.approx(27844.53 / 77646.97, abs=1e-6)
    assert material.share == pytest.approx(10683.72 / 77646.97, abs=1e-6)
    assert temperature.partial_share == pytest.approx(39118.72 / (39118.72 + 27844.53), abs=1e-6)
    assert found.unassigned == pytest.approx(0, abs=1e-12)
    assert found.observations == 36


def test_analyse_battery_life_has_intervals_that_hold_the_published_f():
    found = analyse(*batteries())
    for part, f in zip(found.parts, (5.947, 21.776), strict=True):
        for bound, tail in ((part.low, 0.975), (part.high, 0.025)):
            noncentrality = 36 * bound / (1 - bound)
            assert stats.ncf.cdf(f, 2, 31, noncentrality) == pytest.approx(tail, abs=2e-4)
        assert part.low < part.partial_share < part.high


def test_analyse_one_factor_agrees_with_one_way_anova():
    groups = ([24.0, 27, 31, 28], [30.0, 35, 34], [19.0, 22, 25, 27, 21])
    levels = {"data": [place for place, group in enumerate(groups) for _ in group]}
    found = analyse(levels, [value for group in groups for value in group])
    (part,) = found.parts
    residual = found.residual_share * found.total
    f = (part.sum_squares / part.df) / (residual / found.residual_df)
    assert f == pytest.approx(stats.f_oneway(*groups).statistic, rel=1e-10)
    assert (part.df, found.residual_df) == (2, 9)


def test_analyse_unbalanced_design_agrees_with_statsmodels_type_two():
    chance = np.random.default_rng(5)
    frame = pd.DataFrame(
        [
            (m, d, s, 2 * m + 0.7 * d + chance.normal(0, 0.8))
            for m, d, s in itertools.product(range(2), range(3), range(2))
            for _ in range(1 + (m + 2 * d + s) % 3)
        ],
        columns=["m", "d", "s", "y"],
    )
    table = anova_lm(ols("y ~ C(m) + C(d) + C(s)", frame).fit(), typ=2)
    found = analyse({name: list(frame[name]) for name in "mds"}, list(frame["y"]))
    for part, name in zip(found.parts, ("C(m)", "C(d)", "C(s)"), strict=True):
        assert part.sum_squares == pytest.approx(table.loc[name, "sum_sq"], rel=1e-9)
        assert part.df == table.loc[name, "df"]
    residual = table.loc["Residual"]
    assert found.residual_share * found.total == pytest.approx(residual["sum_sq"], rel=1e-9)
    assert found.residual_df == residual["df"]
    assert abs(found.unassigned) > 1e-4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=6, max_size=18),
    st.integers(0, 2**32 - 1),
)
def test_analyse_any_design_agrees_with_projections(rows, seed):
    levels = dict(zip("abc", zip(*rows, strict=True), strict=True))
    y = np.random.default_rng(seed).normal(3, 2, len(rows))
    found = analyse(levels, list(y), independent=False)
    assume(found is not None)
    columns = {p.group: [tuple(levels[n][i] for n in p.group) for i in range(len(y))]
               for p in found.parts}  # fmt: skip
    coded = {g: [sorted(set(c)).index(level) for level in c] for g, c in columns.items()}
    residual, rank = unexplained(list(coded.values()), y)
    total = float(np.sum((y - np.mean(y)) ** 2))
    assert found.total == pytest.approx(total, rel=1e-9)
    assert found.residual_df == len(y) - rank
    assert found.residual_share == pytest.approx(residual / total, abs=1e-9)
    for part in found.parts:
        without, left = unexplained([c for g, c in coded.items() if g != part.group], y)
        assert part.share == pytest.approx((without - residual) / total, abs=1e-9)
        assert part.df == rank - left
        assert part.partial_share is part.low is part.high is None
    assert sum(p.share for p in found.parts) + found.residual_share + found.unassigned == (
        pytest.approx(1, abs=1e-12)
    )


def test_analyse_one_factor_hides_another_leaves_a_share_below_zero():
    # y = a - b with a and b mostly equal: each alone explains a quarter, given the other 3/4.
    a, b = (0, 0, 0, 0, 1, 1, 1, 1), (0, 0, 0, 1, 0, 1, 1, 1)
    found = analyse({"a": a, "b": b}, [float(x - z) for x, z in zip(a, b, strict=True)],
                    independent=False)  # fmt: skip
    assert [part.share for part in found.parts] == pytest.approx([0.75, 0.75], abs=1e-12)
    assert found.unassigned == pytest.approx(-0.5, abs=1e-12)


def test_analyse_saturated_design_has_shares_and_no_interval():
    found = analyse({"data": ["a", "b", "c"], "seed": [1, 1, 1]}, [1.0, 2.0, 4.0])
    (part,) = found.parts
    assert (found.residual_df, found.residual_share) == (0, 0.0)
    assert part.share == pytest.approx(1, abs=1e-12)
    assert part.sum_squares == pytest.approx(14 / 3, abs=1e-12)
    assert (part.partial_share, part.low, part.high) == (None, None, None)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e6 / 3])
def test_analyse_a_response_that_does_not_vary_is_none(value):
    assert analyse({"data": ["a", "b", "a", "b"]}, [value] * 4) is None


def test_analyse_no_factor_that_varies_is_none():
    assert analyse({"data": ["a", "a", "a"]}, [1.0, 2.0, 3.0]) is None


def test_analyse_dependent_observations_have_the_same_shares_and_no_interval():
    independent, dependent = analyse(*batteries()), analyse(*batteries(), independent=False)
    assert [p.share for p in dependent.parts] == [p.share for p in independent.parts]
    assert dependent.residual_share == independent.residual_share
    assert all(p.partial_share is p.low is p.high is None for p in dependent.parts)


def test_analyse_an_exactly_additive_response_has_shares_that_sum_to_one():
    # Nothing is left over, but for rounding: F is beyond 1e20.
    rows = list(itertools.product((0, 1), repeat=3))
    levels = dict(zip("abc", zip(*rows, strict=True), strict=True))
    found = analyse(levels, [1 + 0.5 * a + 0.25 * b + 0.1 * c for a, b, c in rows])
    shares = [part.share for part in found.parts]
    assert shares == pytest.approx(np.array([0.25, 0.0625, 0.01]) / 0.3225, abs=1e-9)
