"""Whether labels of models matter: permutation tests within blocks.

Model: if a factor does nothing, two models that differ in it and in nothing else could change
places. Models that could are a block. A permutation assigns the labels of each block anew,
independently of other blocks (Fisher 1935; restricted permutations: Edgington and Onghena 2007,
chapter 4); assignments that are equal count once. p is the share of permutations, the observed one
among them, whose statistic is at least the observed one. The least p that a design can give is the
share of permutations that put the same pairs of models together as the observed one: whatever is
measured, they have the observed statistic. Up to `MOST` permutations are all made; of more, scipy
draws `RESAMPLES` from a fixed random state, and p = (b + 1) / (n + 1) (Phipson and Smyth 2010,
eq. 2).
Invariant: the same labels and values give the same p, and p is at least the least p.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MOST = 20_000
RESAMPLES = 9_999
_RANDOM_STATE = 20_101_111
_ROUNDING = 1e-12
"""Sums in another order may differ by so much of their size."""

Blocks = Sequence[Sequence[int]]
"""The places of the models of each block among all."""


@dataclass(frozen=True)
class Pairings:
    """The pairs of models that are compared, and what labels make of them.

    one, other: int64 (pairs,), places of models. values: float64 (pairs,), larger where two are
    further apart. differ: bool (labels, labels), the two labels whose difference is asked for.
    """

    one: np.ndarray
    other: np.ndarray
    values: np.ndarray
    differ: np.ndarray

    def kinds(self, labels: np.ndarray) -> np.ndarray:
        """int8 (pairs,): 1 between labels that differ, -1 within one label, 0 otherwise."""
        first, second = labels[self.one], labels[self.other]
        return self.differ[first, second].astype(np.int8) - (first == second).astype(np.int8)

    def statistic(self, kinds: np.ndarray) -> float:
        """The mean value between labels less that within labels; -inf where there is no pair."""
        between, within = self.values[kinds == 1], self.values[kinds == -1]
        if not between.size or not within.size:
            return -math.inf
        return float(between.mean() - within.mean())


def permutation_test(labels: np.ndarray, blocks: Blocks, pairings: Pairings) -> tuple[float, float]:
    """(p, the least p of the design). labels: int64 (models,)."""
    observed = pairings.kinds(labels)
    size = pairings.statistic(observed)
    least = size - _ROUNDING * max(1.0, abs(size))
    if permutations(labels, blocks) <= MOST:
        found = [pairings.kinds(other) for other in _every(labels, blocks)]
        alike = sum(np.array_equal(kinds, observed) for kinds in found)
        as_large = sum(pairings.statistic(kinds) >= least for kinds in found)
        return as_large / len(found), alike / len(found)
    # Loaded where it is used alone: it takes long, and much memory.
    from scipy import stats

    rng = np.random.default_rng(_RANDOM_STATE)
    drawn = np.array([_shuffled(labels, blocks, rng) for _ in range(RESAMPLES)])

    def of_rows(rows: np.ndarray, axis: int) -> np.ndarray:
        values = np.apply_along_axis(_statistic_of, axis, rows.astype(np.int64), pairings)
        return np.where(values >= least, np.maximum(values, size), values)

    result = stats.monte_carlo_test(
        labels, lambda size: drawn, of_rows, vectorized=True, n_resamples=RESAMPLES,
        alternative="greater",
    )  # fmt: skip
    alike = sum(np.array_equal(pairings.kinds(row), observed) for row in drawn)
    return float(result.pvalue), (alike + 1) / (RESAMPLES + 1)


def _statistic_of(labels: np.ndarray, pairings: Pairings) -> float:
    return pairings.statistic(pairings.kinds(labels))


def permutations(labels: np.ndarray, blocks: Blocks) -> int:
    """The number of different assignments of the labels of all blocks, each within its own."""
    count = 1
    for block in blocks:
        numbers = Counter(labels[list(block)].tolist()).values()
        count *= math.factorial(len(block)) // math.prod(map(math.factorial, numbers))
    return count


def _every(labels: np.ndarray, blocks: Blocks) -> Iterator[np.ndarray]:
    """Each assignment once."""
    found = [list(_arrangements(labels[list(block)].tolist())) for block in blocks]
    for arranged in itertools.product(*found):
        other = labels.copy()
        for block, of_block in zip(blocks, arranged, strict=True):
            other[list(block)] = of_block
        yield other


def _arrangements(labels: Sequence[int]) -> Iterator[list[int]]:
    """The different orders of labels, of which some may be equal."""
    if not labels:
        yield []
        return
    first, *others = dict.fromkeys(labels)
    rest = [label for label in labels if label != first]
    for places in itertools.combinations(range(len(labels)), len(labels) - len(rest)):
        for order in _arrangements(rest) if others else [[]]:
            left = iter(order)
            yield [first if place in places else next(left) for place in range(len(labels))]


def _shuffled(labels: np.ndarray, blocks: Blocks, rng: np.random.Generator) -> np.ndarray:
    other = labels.copy()
    for block in blocks:
        other[list(block)] = rng.permutation(labels[list(block)])
    return other
