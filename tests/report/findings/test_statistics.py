"""Intervals against a Poisson mixture of beta distributions, R's MBESS and every resample; Holm's
correction against statsmodels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

from raylab.report.findings.statistics import (
    bootstrap_interval,
    holm,
    mean,
    share_interval,
    standard_deviation,
)
from raylab.report.study_tables import finite


def below(f, df, residual_df, noncentrality):
    """P(F' <= f) of the noncentral F: betas weighted by a Poisson distribution."""
    half = noncentrality / 2
    spread = 12 * math.sqrt(half) + 40
    terms = np.arange(max(0, math.floor(half - spread)), math.ceil(half + spread))
    weights = np.exp(terms * math.log(half) - half - special.gammaln(terms + 1)) if half else (
        np.equal(terms, 0).astype(float)
    )  # fmt: skip
    x = df * f / (df * f + residual_df)
    return float(np.sum(weights * special.betainc(df / 2 + terms, residual_df / 2, x)))


def noncentrality_of(share, observations):
    return observations * share / (1 - share)


@settings(max_examples=80, deadline=None)
@given(st.floats(0.01, 300), st.integers(1, 9), st.integers(1, 60))
def test_share_interval_any_f_has_its_tails_at_the_bounds(f, df, residual_df):
    observations = df + residual_df + 1
    low, high = share_interval(f, df, residual_df, observations)
    assert 0 <= low <= high < 1
    for bound, tail in ((low, 0.975), (high, 0.025)):
        if bound > 0:
            found = below(f, df, residual_df, noncentrality_of(bound, observations))
            assert found == pytest.approx(tail, abs=1e-6)
        else:
            assert stats.f.cdf(f, df, residual_df) <= tail + 1e-9


@pytest.mark.parametrize("f", [1e3, 1e5, 1e7])
def test_share_interval_of_a_large_f_has_its_tails_at_the_bounds(f):
    for bound, tail in zip(share_interval(f, 2, 9, 12), (0.975, 0.025), strict=True):
        assert below(f, 2, 9, noncentrality_of(bound, 12)) == pytest.approx(tail, abs=1e-5)


def test_share_interval_by_a_grid_of_noncentralities_agrees():
    f, df, residual_df, observations = 5.2, 3, 20, 24
    grid = np.linspace(0, 60, 6_001)
    under = np.array([below(f, df, residual_df, value) for value in grid])
    wanted = [grid[np.argmin(np.abs(under - tail))] for tail in (0.975, 0.025)]
    found = [noncentrality_of(s, observations)
             for s in share_interval(f, df, residual_df, observations)]  # fmt: skip
    assert found == pytest.approx(wanted, abs=0.0051)


@pytest.mark.parametrize(
    ("f", "low", "high"),
    [(39.18, 0.4545357, 0.8006797), (0.663, 0.0, 0.1836511), (5.765, 0.01916242, 0.4524208)],
)
def test_share_interval_agrees_with_ci_pvaf_of_mbess(f, low, high):
    assert share_interval(f, 2, 22, 36) == pytest.approx((low, high), abs=2e-6)


def test_share_interval_of_no_effect_is_zero():
    assert share_interval(0.0, 2, 9, 12) == (0.0, 0.0)


def test_share_interval_without_residual_freedom_is_none():
    assert share_interval(3.0, 2, 0, 3) == (None, None)


@pytest.mark.parametrize("f", [1e6, 1e9, 1e11, 1e15, 1e28])
def test_share_interval_of_a_huge_f_is_none_or_close_below_one(f):
    low, high = share_interval(f, 2, 9, 12)
    assert (low, high) == (None, None) or 0.999 < low <= high <= 1


def every_resample(values):
    """The means of all resamples, sorted: n^n, each as likely as the others."""
    return np.sort([sum(s) / len(s) for s in itertools.product(values, repeat=len(values))])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_bootstrap_interval_of_three_is_their_smallest_and_largest(values):
    # One resample of 27 has the smallest value thrice: more than the tail of 2.5 %.
    assert bootstrap_interval(values) == pytest.approx((min(values), max(values)), abs=1e-9)


@pytest.mark.parametrize("values", [(1.0, 2.0, 4.0, 8.0), (3.1, 2.9, 3.4, 3.0, 5.5)])
def test_bootstrap_interval_agrees_with_every_resample(values):
    means = every_resample(values)
    found = bootstrap_interval(values)
    for bound, tail in zip(found, (0.025, 0.975), strict=True):
        # 9999 draws know a quantile to about 0.2 %: within the bracket of 0.6 % either way.
        least, most = np.quantile(means, [tail - 0.006, tail + 0.006])
        assert least - 1e-9 <= bound <= most + 1e-9


def test_bootstrap_interval_of_many_is_close_to_a_plain_bootstrap():
    values = np.random.default_rng(3).normal(10, 2, 30)
    draws = np.random.default_rng(99).choice(values, (40_000, 30)).mean(axis=1)
    wanted = np.percentile(draws, [2.5, 97.5])
    assert bootstrap_interval(list(values)) == pytest.approx(wanted, abs=0.04)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 1e6), min_size=3, max_size=8))
@example([761669.898752644] * 3)
def test_bootstrap_interval_holds_the_mean_within_the_values(values):
    low, high = bootstrap_interval(values)
    slack = 1e-9 * max(values)
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert low - slack <= math.fsum(values) / len(values) <= high + slack


def test_bootstrap_interval_is_the_same_whatever_was_drawn_before():
    first = bootstrap_interval([1.0, 2.0, 5.0, 7.0])
    np.random.default_rng().normal(size=10)
    bootstrap_interval([9.0, 8.0, 4.0])
    assert bootstrap_interval([1.0, 2.0, 5.0, 7.0]) == first


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_bootstrap_interval_below_three_values_is_none(values):
    assert bootstrap_interval(values) == (None, None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=9))
def test_mean_and_deviation_of_any_values_agree_with_their_definitions(values):
    average = sum(values) / len(values)
    squares = sum((value - average) ** 2 for value in values)
    wanted = math.sqrt(squares / (len(values) - 1))
    assert mean(values) == pytest.approx(average, abs=1e-6)
    assert standard_deviation(values) == pytest.approx(wanted, abs=1e-6)


def test_mean_of_nothing_and_deviation_of_two_are_none():
    assert mean([]) is standard_deviation([1.0, 2.0]) is None
    assert finite(None) is finite(math.nan) is finite(-math.inf) is None


@given(
    st.lists(st.sampled_from([1e-4, 0.01, 0.02, 0.05, 0.3, 1.0]) | st.floats(1e-9, 1), min_size=1)
)
def test_holm_of_any_values_agrees_with_statsmodels(p):
    assert holm(p) == multipletests(p, method="holm")[1].tolist()


def test_holm_of_no_values_is_empty():
    assert holm([]) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=12))
def test_bootstrap_interval_is_that_of_scipy_bit_for_bit(values):
    drawn = stats.bootstrap(
        (np.array(values),), np.mean, n_resamples=9999, confidence_level=0.95,
        method="percentile", rng=np.random.default_rng(20_040_611),
    )  # fmt: skip
    assert bootstrap_interval(values) == tuple(sorted(drawn.confidence_interval))
