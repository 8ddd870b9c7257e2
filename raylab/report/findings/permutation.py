"""Whether labels of models matter: permutation tests within blocks.

Model: if a factor does nothing, two models that differ in it and in nothing else could change
places. Models that could are a block. A permutation assigns the labels of each block anew,
independently of other blocks (Fisher 1935; restricted permutations: Edgington and Onghena 2007,
chapter 4); assignments that are equal count once. p is the share of permutations, the observed one
among them, whose statistic is at least the observed one. The least p that a design can give is the
share of permutations that put the same pairs of models together as the observed one: whatever is
measured, they have the observed statistic. Up to `MOST` permutations are all made; of more,
`RESAMPLES` are drawn from a fixed random state, and p = (b + 1) / (n + 1) (Phipson and Smyth 2010,
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
_AT_A_TIME = 64
"""Assignments, so that a few thousand pairs of each take some megabytes."""
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
        """int8 (..., pairs) of labels int64 (..., models): 1 between labels that differ, -1 within
        one label, 0 otherwise."""
        of_two = self.differ.astype(np.int8) - np.eye(len(self.differ), dtype=np.int8)
        first, second = (labels.take(places, axis=-1) for places in (self.one, self.other))
        return of_two.ravel().take(first * len(of_two) + second)

    def statistics(self, kinds: np.ndarray) -> np.ndarray:
        """float64 (rows,) of kinds (rows, pairs): the mean value between labels less that within
        labels; -inf where there is no pair."""
        between, within = ((kinds == kind).astype(np.float64) for kind in (1, -1))
        pairs_between, pairs_within = between.sum(axis=1), within.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            less = between @ self.values / pairs_between - within @ self.values / pairs_within
        return np.where((pairs_between > 0) & (pairs_within > 0), less, -math.inf)


def permutation_test(labels: np.ndarray, blocks: Blocks, pairings: Pairings) -> tuple[float, float]:
    """(p, the least p of the design). labels: int64 (models,)."""
    if permutations(labels, blocks) <= MOST:
        every = np.array([*_every(labels, blocks)])
        as_large, alike = _counts(labels, every, pairings)
        return as_large / len(every), alike / len(every)
    as_large, alike = _counts(labels, _drawn(labels, blocks), pairings)
    return (as_large + 1) / (RESAMPLES + 1), (alike + 1) / (RESAMPLES + 1)


def _counts(labels: np.ndarray, others: np.ndarray, pairings: Pairings) -> tuple[int, int]:
    """How many of `others`, int64 (assignments, models), have at least the statistic of `labels`,
    and how many put the same pairs together."""
    observed = pairings.kinds(labels)
    size = float(pairings.statistics(observed[None])[0])
    least = size - _ROUNDING * max(1.0, abs(size))
    as_large = alike = 0
    for start in range(0, len(others), _AT_A_TIME):
        kinds = pairings.kinds(others[start : start + _AT_A_TIME])
        as_large += int((pairings.statistics(kinds) >= least).sum())
        alike += int((kinds == observed).all(axis=1).sum())
    return as_large, alike


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


def _drawn(labels: np.ndarray, blocks: Blocks) -> np.ndarray:
    """RESAMPLES assignments, int64 (RESAMPLES, models), from a fixed random state."""
    rng = np.random.default_rng(_RANDOM_STATE)
    drawn = np.tile(labels, (RESAMPLES, 1))
    if len({len(block) for block in blocks}) == 1:
        # The same draws as below, block by block of one assignment after the other, at once.
        places = np.array(blocks)
        drawn[:, places] = rng.permuted(drawn[:, places], axis=2)
        return drawn
    for row in drawn:
        for block in blocks:
            row[list(block)] = rng.permutation(labels[list(block)])
    return drawn
