"""How much of a response's variance goes with each group of factors.

Model: y = mean + one effect for each level of each group + residual, without interactions, fitted
by least squares; sums of squares are of type II (what a group explains beyond all the others),
by statsmodels' `anova_lm`.

    share         = SS(group) / SS(total)                  (eta squared)
    partial share = SS(group) / (SS(group) + SS(residual))
    unassigned    = 1 - sum of shares - residual share

The last is what groups explain only together, where the design is not balanced: zero where it is,
and below zero where one hides what another explains.
Invariant: without residual freedom there is no interval, and no partial share; a response that
does not vary has no shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from raylab.report.findings.design import Levels, codes_of, design_of
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

    Observations that are not `independent` have shares and no intervals.
    """
    y = np.asarray(values, np.float64)
    total = float(np.sum((y - y.mean()) ** 2))
    groups = design_of(levels).groups
    if not groups or total <= _NO_VARIANCE * max(1.0, float(np.sum(y**2))):
        return None
    frame = pd.DataFrame({f"g{i}": codes_of(levels, g) for i, g in enumerate(groups)})
    frame["y"] = y
    terms = " + ".join(f"C(g{i})" for i in range(len(groups)))
    fitted = ols(f"y ~ {terms}", frame).fit()
    residual_df = int(fitted.df_resid)
    residual = float(fitted.ssr) if residual_df else 0.0
    sums, freedoms = _type_two(fitted, len(groups), residual_df)
    parts = tuple(
        _part(group, ss, df, total, residual, residual_df if independent else 0, len(y))
        for group, ss, df in zip(groups, sums, freedoms, strict=True)
    )
    left = 1 - sum(part.share for part in parts) - residual / total
    return Analysis(parts, len(y), total, residual_df, residual / total, left)


def _type_two(fitted: object, groups: int, residual_df: int) -> tuple[list[float], list[int]]:
    # anova_lm divides by the residual's freedom; its sums of squares do not need it.
    with np.errstate(divide="ignore", invalid="ignore"):
        table = anova_lm(fitted, typ=2)
    rows = [table.loc[f"C(g{i})"] for i in range(groups)]
    return [float(row["sum_sq"]) for row in rows], [int(row["df"]) for row in rows]


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
