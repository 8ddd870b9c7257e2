"""How much of a response's variance goes with each group of factors.

Model: y = mean + one effect for each level of each group + residual, without interactions, fitted
by least squares (statsmodels). Sums of squares are of type II: what a group explains beyond all
the others, SS(group) = SSR(model without it) - SSR(model).

    share         = SS(group) / SS(total)                  (eta squared)
    partial share = SS(group) / (SS(group) + SS(residual))
    unassigned    = 1 - sum of shares - residual share

The last is what groups explain only together, where the design is not balanced: zero where it is,
and below zero where one hides what another explains. Observations of equal levels are fitted as
one, their mean, weighted by their number: the same sums of squares, with what lies between equals
added to the residual, at the cost of as many rows as there are combinations.
Invariant: without residual freedom there is no interval, and no partial share; a response that
does not vary has no shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.regression.linear_model import WLS

from raylab.report.findings.design import Levels, codes_of, design_of, indicators
from raylab.report.findings.intervals import share_interval

_NO_VARIANCE = 1e-20


@dataclass(frozen=True)
class Part:
    """What one group explains; `df` its degrees of freedom."""

    group: tuple[str, ...]
    df: int
    sum_squares: float
    share: float
    partial_share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Analysis:
    """The parts of all groups, and what is left."""

    parts: tuple[Part, ...]
    observations: int
    total: float
    residual_df: int
    residual_share: float
    unassigned: float


def analyse(
    levels: Levels, values: Sequence[float], *, independent: bool = True
) -> Analysis | None:
    """The analysis of variance of `values`; None where nothing varies.

    Observations that are not `independent`, which pairs of models are, have shares and no
    intervals. Their factors were grouped by the models' own design: that two seeds of one recipe
    never share a seed is no nesting of the study.
    """
    y = np.asarray(values, np.float64)
    total = float(np.sum((y - y.mean()) ** 2))
    groups = design_of(levels, nesting=independent).groups
    if not groups or total <= _NO_VARIANCE * max(1.0, float(np.sum(y**2))):
        return None
    cells = _cells_of(levels, groups, y)
    residual, rank = cells.residual(range(len(groups)))
    residual_df = len(y) - rank
    residual = residual if residual_df else 0.0
    parts = []
    for place, group in enumerate(groups):
        without, left = cells.residual([i for i in range(len(groups)) if i != place])
        ss, df = max(without - residual, 0.0), rank - left
        freedom = residual_df if independent else 0
        parts.append(_part(group, ss, df, total, residual, freedom, len(y)))
    apart = 1 - sum(part.share for part in parts) - residual / total
    return Analysis(tuple(parts), len(y), total, residual_df, residual / total, apart)


@dataclass(frozen=True)
class _Cells:
    """Observations by combination of levels: codes int (groups, cells), means and counts float64
    (cells,), and the sum of squares between equals."""

    codes: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    within: float

    def residual(self, groups: Sequence[int]) -> tuple[float, int]:
        """The residual sum of squares of a model of some groups, and its rank."""
        columns = [np.ones((len(self.means), 1)), *(indicators(self.codes[i]) for i in groups)]
        design = np.hstack(columns)
        fitted = WLS(self.means, design, weights=self.counts).fit()
        return float(fitted.ssr) + self.within, int(np.linalg.matrix_rank(design))


def _cells_of(levels: Levels, groups: Sequence[tuple[str, ...]], y: np.ndarray) -> _Cells:
    codes = np.asarray([codes_of(levels, group) for group in groups])
    combinations, cell = np.unique(codes, axis=1, return_inverse=True)
    counts = np.bincount(cell).astype(np.float64)
    means = np.bincount(cell, weights=y) / counts
    return _Cells(combinations, means, counts, float(np.sum((y - means[cell]) ** 2)))


def _part(
    group: tuple[str, ...],
    ss: float,
    df: int,
    total: float,
    residual: float,
    residual_df: int,
    observations: int,
) -> Part:
    partial, low, high = None, None, None
    if residual_df > 0 and ss + residual > 0:
        partial = ss / (ss + residual)
        f = (ss / df) / (residual / residual_df) if residual else np.inf
        low, high = share_interval(f, df, residual_df, observations)
    return Part(group, df, ss, ss / total, partial, low, high)
