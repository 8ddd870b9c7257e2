"""How much of a response's variance goes with each group of factors.

Model: y = mean + one effect for each level of each group + residual, without interactions, fitted
by least squares. Sums of squares are of type II: the sum that a group explains
beyond all the others, SS(group) = SSR(model without it) - SSR(model).

    share         = SS(group) / SS(total)                  (eta squared)
    partial share = SS(group) / (SS(group) + SS(residual))
    unassigned    = 1 - sum of shares - residual share

The last is the share that groups explain only together, where the design is not balanced: zero
where it is, and below zero where one hides the effect of another. Observations of equal levels are
fitted as one, their mean, weighted by their number: the same sums of squares, with the sum between
equals added to the residual, at the cost of as many rows as there are combinations.
Invariant: without residual degrees of freedom there is no interval, and no partial share; a
response that does not vary has no shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raylab.report.findings.design import Levels, codes_of, design_of, indicators
from raylab.report.findings.statistics import share_interval

_NO_VARIANCE = 1e-20
_ROUNDING = 1e-15
"""Singular values of a design below this share of the largest one are rounding alone."""


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
    """The parts of all groups, and the rest."""

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

    Observations that are not `independent`, as pairs of models, have shares and no intervals.
    Their factors were grouped by the models' own design: that two seeds of one recipe never share
    a seed is no nesting of the study.
    """
    y = np.asarray(values, np.float64)
    total = float(np.sum((y - y.mean()) ** 2))
    groups = design_of(levels, nesting=independent).groups
    if not groups or total <= _NO_VARIANCE * max(1.0, float(np.sum(y**2))):
        return None
    model = _AdditiveModel.of([codes_of(levels, group) for group in groups], y)
    every = list(range(len(groups)))
    residual, rank = model.residual(every)
    residual_df = len(y) - rank
    residual = residual if residual_df else 0.0
    parts = []
    for place, group in enumerate(groups):
        without, smaller_rank = model.residual([i for i in every if i != place])
        ss, df = max(without - residual, 0.0), rank - smaller_rank
        partial, low, high = None, None, None
        if independent and residual_df > 0 and ss + residual > 0:
            partial = ss / (ss + residual)
            f = (ss / df) / (residual / residual_df) if residual else np.inf
            low, high = share_interval(f, df, residual_df, len(y))
        parts.append(Part(group, df, ss, ss / total, partial, low, high))
    unassigned = 1 - sum(part.share for part in parts) - residual / total
    return Analysis(tuple(parts), len(y), total, residual_df, residual / total, unassigned)


@dataclass(frozen=True)
class _AdditiveModel:
    """Observations by combination of levels, of which the additive model of any groups is fitted.

    `codes` int (groups, combinations), `means` and `counts` float64 (combinations,), `within` the
    sum of squares between observations of equal levels.
    """

    codes: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    within: float

    @classmethod
    def of(cls, codes: Sequence[Sequence[int]], y: np.ndarray) -> _AdditiveModel:
        """Of codes (groups, observations) and the response float64 (observations,)."""
        combinations, index = np.unique(np.asarray(codes), axis=1, return_inverse=True)
        counts = np.bincount(index).astype(np.float64)
        means = np.bincount(index, weights=y) / counts
        return cls(combinations, means, counts, float(np.sum((y - means[index]) ** 2)))

    def residual(self, groups: Sequence[int]) -> tuple[float, int]:
        """The residual sum of squares of the model of some groups, and its rank."""
        columns = [np.ones((len(self.means), 1)), *(indicators(self.codes[i]) for i in groups)]
        design = np.hstack(columns)
        # Least squares of weighted rows: both sides times the root of the number of observations.
        weights = np.sqrt(self.counts)
        rows, y = design * weights[:, None], self.means * weights
        residual = y - rows @ (np.linalg.pinv(rows, rcond=_ROUNDING) @ y)
        return float(residual @ residual) + self.within, int(np.linalg.matrix_rank(design))
