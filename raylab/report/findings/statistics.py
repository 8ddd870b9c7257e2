"""Statistics of values that may not have been measured, and 95 % confidence intervals.

Model: the mean of three or more seeds has a percentile bootstrap interval (Efron 1979), a partial
share of variance the interval that inverts the noncentral F distribution (Steiger 2004,
Psychological Methods 9(2), eq. 9-11):

    partial share = lambda / (lambda + n),   F ~ F'(df, df_residual, lambda)

Invariant: a value that was not measured is None, and so is each result that depends on it. The
same values give the same interval, whatever was drawn before. Below three values, without residual
degrees of freedom, or where the residual is rounding alone, there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9_999
MIN_VALUES = 3
"""The least number of values that have a standard deviation and an interval."""
MAX_F = 1e9
"""Beyond it a residual is rounding alone, and scipy 1.17's noncentral F gives NaN."""
_RANDOM_STATE = 20_040_611

Interval = tuple[float, float] | tuple[None, None]


def mean(values: Sequence[float]) -> float | None:
    """The arithmetic mean, summed exactly; None of no values."""
    return math.fsum(values) / len(values) if values else None


def standard_deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation (n - 1 in the denominator); None below three values."""
    if len(values) < MIN_VALUES:
        return None
    return float(np.std(np.asarray(values, np.float64), ddof=1))


def ratio_of(value: float | None, whole: float | None) -> float | None:
    """The value over the whole; None where either was not measured, or the whole is zero."""
    return value / whole if value is not None and whole else None


def bootstrap_interval(values: Sequence[float]) -> Interval:
    """The percentile interval of the mean; (None, None) below three values."""
    if len(values) < MIN_VALUES:
        return None, None
    # scipy's bootstrap draws and gives the same; to load scipy.stats takes longer than all of this.
    drawn = np.random.default_rng(_RANDOM_STATE).integers(0, len(values), (RESAMPLES, len(values)))
    means = np.sort(np.asarray(values, np.float64)[drawn].mean(axis=1))
    tail = (1 - CONFIDENCE) / 2
    # Between means that are equal but for rounding, interpolation can put the lower end above.
    low, high = sorted((_quantile(means, tail), _quantile(means, 1 - tail)))
    return low, high


def _quantile(ordered: np.ndarray, share: float) -> float:
    """The quantile of ordered values by linear interpolation (Hyndman and Fan 1996, type 7)."""
    place = share * len(ordered) + 1 - share
    before, part = int(place), place % 1
    return float((1 - part) * ordered[before - 1] + part * ordered[before])


def holm(p: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979, Scand. J. Statist. 6), in their order.

    The k-th smallest of n is multiplied by n + 1 - k; none is above 1 or below a smaller one's.
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return [float(value) for value in np.minimum(corrected, 1.0)]


def share_interval(f: float, df: float, residual_df: float, observations: int) -> Interval:
    """The interval of the partial share of variance whose F statistic is `f`."""
    if residual_df <= 0 or not f <= MAX_F:
        return None, None
    tails = (1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2
    low, high = (_noncentrality(f, df, residual_df, tail) for tail in tails)
    return low / (low + observations), high / (high + observations)


def _noncentrality(f: float, df: float, residual_df: float, tail: float) -> float:
    """The lambda at which P(F' <= f) is `tail`; 0 where there is none."""
    # scipy takes longer to load than a comparison of two studies takes, which has no intervals.
    from scipy import optimize, special

    def excess(noncentrality: float) -> float:
        # scipy 1.17's ncfdtr is not defined at lambda = 0, where it is the central F.
        if noncentrality:
            return float(special.ncfdtr(df, residual_df, noncentrality, f)) - tail
        return float(special.fdtr(df, residual_df, f)) - tail

    if excess(0.0) <= 0:
        return 0.0
    top = max(1.0, df * f)
    while excess(top) > 0:
        top *= 2
    return float(optimize.brentq(excess, 0.0, top))
