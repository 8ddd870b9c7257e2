"""Intervals for a mean over seeds and for a share of variance.

Model: the mean of three or more seeds has a percentile bootstrap interval (Efron 1979), a partial
share of variance the interval that inverts the noncentral F distribution (Steiger 2004,
Psychological Methods 9(2), eq. 9-11):

    partial share = lambda / (lambda + n),   F ~ F'(df, df_residual, lambda)

Invariant: the same values give the same interval, whatever was drawn before; too few seeds, no
residual freedom, or a residual of rounding alone give none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
RESAMPLES = 9_999
LEAST = 3
LARGEST_F = 1e9
"""Beyond it a residual is what rounding leaves, and scipy 1.17's noncentral F gives NaN."""
_SEED = 20_040_611

Interval = tuple[float, float] | tuple[None, None]


def bootstrap_interval(values: Sequence[float]) -> Interval:
    """The percentile interval of the mean at 95 %; (None, None) below three values."""
    if len(values) < LEAST:
        return None, None
    found = stats.bootstrap(
        (np.asarray(values, np.float64),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def share_interval(f: float, df: float, residual_df: float, observations: int) -> Interval:
    """The interval at 95 % of the partial share whose F statistic is `f`."""
    if residual_df <= 0 or not f <= LARGEST_F:
        return None, None
    low, high = (
        _noncentrality(f, df, residual_df, tail) for tail in ((1 + LEVEL) / 2, (1 - LEVEL) / 2)
    )
    return low / (low + observations), high / (high + observations)


def _noncentrality(f: float, df: float, residual_df: float, tail: float) -> float:
    """The lambda at which `f` has the probability `tail` below it; 0 where there is none."""

    def over(value: float) -> float:
        # scipy 1.17's ncf is not defined at lambda = 0, where it is the central F.
        below = (
            stats.ncf.cdf(f, df, residual_df, value) if value else stats.f.cdf(f, df, residual_df)
        )
        return float(below) - tail

    if over(0.0) <= 0:
        return 0.0
    top = max(1.0, df * f)
    while over(top) > 0:
        top *= 2
    return float(optimize.brentq(over, 0.0, top))
