"""Arcee Fusion: which entries of a model matter enough to replace those of the base.

Model: an entry's importance is |d| times how far its row's softmax has moved from the base's,
sum_j p_j log(p_j / q_j), where both softmax values have 1e-8 added. Entries stay whose importance
is at least median + 1.5 (third - first quartile) of the whole tensor. A quartile is the value of
rank floor(q (n - 1)) of the sorted n. A row is all entries that differ in the last index alone. No
paper describes it; these are the definitions of mergekit 0.1.5's arcee_fusion, but that takes the
quartiles of a random sample of a tensor with more than a million entries.
Invariant: float64; a row's importance depends on that row alone.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

_FLOOR = 1e-8


def importance(moves: Array, base: Array, width: int) -> Array:
    """float64, of the shape of `moves`, float32 (rows, columns); `width`: of the last index."""
    before = base.astype(np.float64).reshape(-1, width)
    after = before + moves.reshape(-1, width)
    p, q = _softmax(after) + _FLOOR, _softmax(before) + _FLOOR
    moved = (p * np.log(p / q)).sum(axis=1, keepdims=True)
    return (np.abs(after - before) * moved).reshape(moves.shape)


def threshold(importances: Array) -> float:
    """The least importance that stays; float64 (entries,), reordered."""
    last = len(importances) - 1
    first, middle, third = last // 4, last // 2, 3 * last // 4
    importances.partition((first, middle, third))
    spread = importances[third] - importances[first]
    return float(importances[middle] + 1.5 * spread)


def _softmax(values: Array) -> Array:
    shares = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
