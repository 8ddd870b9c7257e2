"""Whether labels of models matter: permutation tests within blocks.

Model: if a factor does nothing, two models that differ in it and in nothing else could change
places. Models that could are a block: recipes that differ in the factor alone, at one seed. A
permutation assigns the labels of each block anew, independently of other blocks (Fisher 1935;
restricted permutations: Edgington and Onghena 2007, chapter 4). The p-value is the share of
permutations, the observed one among them, whose statistic is at least the observed one. Up to
`MOST` permutations are all made; of more, scipy draws `RESAMPLES` from a fixed random state, and
p = (b + 1) / (n + 1) (Phipson and Smyth 2010, eq. 2).
Invariant: the same labels and statistic give the same p.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

MOST = 20_000
RESAMPLES = 9_999
_RANDOM_STATE = 20_101_111
_ROUNDING = 1e-12
"""Sums in another order may differ by so much of their size."""

Statistic = Callable[[np.ndarray], float]
"""Of the labels int64 (models,)."""
Blocks = Sequence[Sequence[int]]
"""The places of the models of each block among all."""


def permutation_p(labels: np.ndarray, blocks: Blocks, statistic: Statistic) -> float:
    """The p-value of `statistic`, large where labels matter.

    labels: int64 (models,). A model in no block keeps its label.
    """
    observed = statistic(labels)
    least = observed - _ROUNDING * max(1.0, abs(observed))
    if permutations(blocks) <= MOST:
        found = [statistic(other) for other in _every(labels, blocks)]
        return sum(value >= least for value in found) / len(found)
    rng = np.random.default_rng(_RANDOM_STATE)

    def drawn(size: Any) -> np.ndarray:
        return np.array([_shuffled(labels, blocks, rng) for _ in range(size[0])])

    def of_rows(rows: np.ndarray, axis: int) -> np.ndarray:
        values = np.apply_along_axis(statistic, axis, rows.astype(np.int64))
        return np.where(np.abs(values - observed) <= observed - least, observed, values)

    result = stats.monte_carlo_test(
        labels, drawn, of_rows, vectorized=True, n_resamples=RESAMPLES, alternative="greater"
    )
    return float(result.pvalue)


def permutations(blocks: Blocks) -> int:
    """The number of permutations of the models of all blocks, each within its own."""
    return math.prod(math.factorial(len(block)) for block in blocks)


def least_p(labels: np.ndarray, blocks: Blocks, families: Blocks) -> float:
    """The least p-value that a design can give.

    families: the blocks whose labels have one meaning; labels that are changed in all blocks of a
    family in the same way leave every statistic as it was.
    """
    alike = 1
    for family in families:
        alike *= math.factorial(len({int(labels[place]) for n in family for place in blocks[n]}))
    return min(1.0, alike / permutations(blocks))


def _every(labels: np.ndarray, blocks: Blocks) -> Any:
    for orders in itertools.product(*(itertools.permutations(block) for block in blocks)):
        other = labels.copy()
        for block, order in zip(blocks, orders, strict=True):
            other[list(block)] = labels[list(order)]
        yield other


def _shuffled(labels: np.ndarray, blocks: Blocks, rng: np.random.Generator) -> np.ndarray:
    other = labels.copy()
    for block in blocks:
        other[list(block)] = rng.permutation(labels[list(block)])
    return other
