"""Loops of methods that look at whole tensors, compiled: no float64 copy of a model's rows.

Model: `raylab.merge.whole_tensors` defines each rule. models: float32 (models, entries), one piece.
Invariant: sums over models go in their order; an inner product adds in the order of numpy's
pairwise sum of a contiguous array (blocks of at most 128, halved at multiples of 8, eight sums in
a block), so both have the same bits. No product is fused with a sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from raylab.compiled import njit

Array = np.ndarray

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
_ROW, _ROWS = types.float32[::1], types.float32[:, ::1]
_I64, _F64 = types.int64, types.float64
_SUMS, _COUNTS = types.float64[::1], types.int64[::1]


@njit(**_OPTIONS)
def _block_product(a: Array, b: Array) -> float:
    """Of 8 to 128 entries."""
    wide: Any = np.float64
    r0, r1, r2, r3, r4, r5, r6, r7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = a.size - a.size % 8
    for i in range(0, whole, 8):
        r0 += wide(a[i]) * wide(b[i])
        r1 += wide(a[i + 1]) * wide(b[i + 1])
        r2 += wide(a[i + 2]) * wide(b[i + 2])
        r3 += wide(a[i + 3]) * wide(b[i + 3])
        r4 += wide(a[i + 4]) * wide(b[i + 4])
        r5 += wide(a[i + 5]) * wide(b[i + 5])
        r6 += wide(a[i + 6]) * wide(b[i + 6])
        r7 += wide(a[i + 7]) * wide(b[i + 7])
    total = ((r0 + r1) + (r2 + r3)) + ((r4 + r5) + (r6 + r7))
    for i in range(whole, a.size):
        total += wide(a[i]) * wide(b[i])
    return total


@njit(_F64(_ROW, _ROW), **_OPTIONS)
def _product(a: Array, b: Array) -> float:
    if a.size < 8:
        total = 0.0
        for i in range(a.size):
            total += np.float64(a[i]) * np.float64(b[i])
        return total
    if a.size <= 128:
        return float(_block_product(a, b))
    half = a.size // 2
    half -= half % 8
    return float(_product(a[:half], b[:half]) + _product(a[half:], b[half:]))


@njit(types.void(_ROWS, _F64[:, ::1]), **_OPTIONS)
def products(models: Array, found: Array) -> None:
    """The inner products of every two models. found: float64 (models, models)."""
    for i in range(models.shape[0]):
        for j in range(i, models.shape[0]):
            found[i, j] = found[j, i] = _product(models[i], models[j])


@njit(types.void(_ROW, _F64, _SUMS), **_OPTIONS)
def clip(row: Array, most: float, moves: Array) -> None:
    """Each entry, cut to the magnitude `most`."""
    for i in range(row.size):
        moves[i] = min(max(np.float64(row[i]), -most), most)


@njit(types.void(_ROW, _F64, _SUMS), **_OPTIONS)
def scale(row: Array, factor: float, moves: Array) -> None:
    """Each entry times `factor`."""
    for i in range(row.size):
        moves[i] = np.float64(row[i]) * factor


@njit(types.void(_ROWS, types.float32, _I64[:, ::1]), **_OPTIONS)
def count_moved(models: Array, epsilon: np.float32, counts: Array) -> None:
    """Add to `counts`, int64 (2, models), the entries that a model moves by more than `epsilon`
    with others, and alone."""
    for i in range(models.shape[1]):
        moved = 0
        for k in range(models.shape[0]):
            moved += abs(models[k, i]) > epsilon
        alone = 1 if moved == 1 else 0
        for k in range(models.shape[0]):
            counts[alone, k] += abs(models[k, i]) > epsilon


@njit(types.void(_ROWS, types.float32, _SUMS, _SUMS), **_OPTIONS)
def mean_of_moved(models: Array, epsilon: np.float32, boosts: Array, moves: Array) -> None:
    """The mean of what moves an entry by more than `epsilon`, times the boost of a model that moves
    it alone; other entries of `models` become 0."""
    for i in range(moves.size):
        moved = 0
        for k in range(models.shape[0]):
            moved += abs(models[k, i]) > epsilon
        total = 0.0
        for k in range(models.shape[0]):
            value = models[k, i] if abs(models[k, i]) > epsilon else np.float32(0)
            models[k, i] = value
            total += (boosts[k] if moved == 1 else 1.0) * np.float64(value)
        moves[i] = total / max(moved, 1)


@njit(inline="always")
def _variance(models: Array, i: int) -> Any:
    count, total, squares = models.shape[0], 0.0, 0.0
    for k in range(count):
        total += np.float64(models[k, i])
    mean = total / count
    for k in range(count):
        apart = np.float64(models[k, i]) - mean
        squares += apart * apart
    return squares / count


@njit(types.void(_ROWS, _SUMS), **_OPTIONS)
def _fill_variances(models: Array, found: Array) -> None:
    for i in range(found.size):
        found[i] = _variance(models, i)


@njit(types.void(_SUMS, types.uint64, types.int64, types.int64, _COUNTS), **_OPTIONS)
def _count_steps(
    values: Array, prefix: np.uint64, prefix_shift: int, shift: int, counts: Array
) -> None:
    bits, steps = values.view(np.uint64), np.uint64(counts.size - 2)
    for i in range(bits.size):
        counts[-1] += bits[i] == np.uint64(0)
        if bits[i] >> np.uint64(prefix_shift) == prefix:
            counts[np.int64((bits[i] >> np.uint64(shift)) & steps)] += 1


def count_variances(
    models: Array, memory: Array, prefix: int, prefix_shift: int, shift: int, steps: int
) -> Array:
    """int64 (steps + 1,): how many variances over the models, as bits of a float64, that begin with
    `prefix` above `prefix_shift` are at each step of 2^shift; then how many are zero.

    steps: a power of 2; memory: float64 (entries,).
    """
    counts = np.zeros(steps + 1, np.int64)
    _fill_variances(models, memory)
    _count_steps(memory, np.uint64(prefix), prefix_shift, shift, counts)
    return counts


@njit(types.void(_ROWS, _F64, _SUMS), **_OPTIONS)
def sum_selected(models: Array, least: float, sums: Array) -> None:
    """Add each model's sum of squares over the entries whose variance is at least `least`."""
    for i in range(models.shape[1]):
        if _variance(models, i) >= least:
            for k in range(models.shape[0]):
                value = np.float64(models[k, i])
                sums[k] += value * value


@njit(types.void(_ROWS, _F64, _SUMS, _SUMS), **_OPTIONS)
def merge_selected(models: Array, least: float, weights: Array, moves: Array) -> None:
    """The weighted mean of the entries of the sign of their sum, where the variance is at least
    `least`; other entries of `models` become 0."""
    for i in range(moves.size):
        if not _variance(models, i) >= least:
            moves[i] = 0.0
            for k in range(models.shape[0]):
                models[k, i] = np.float32(0)
            continue
        total = 0.0
        for k in range(models.shape[0]):
            total += np.float64(models[k, i])
        above, below = 0.0, 0.0
        for k in range(models.shape[0]):
            value = np.float64(models[k, i])
            agrees = (value > 0 and total > 0) or (value < 0 and total < 0)
            weight = weights[k] if agrees else 0.0
            above += weight * value
            below += weight
        moves[i] = above / below if below > 0 else 0.0
