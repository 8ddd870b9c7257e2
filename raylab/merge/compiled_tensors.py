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

_BLOCK = 1024
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


@njit(**_OPTIONS)
def _add_if_moved(row: Array, epsilon: np.float32, counts: Array) -> None:
    """Set entries that do not move by more than `epsilon` to zero, and count the others."""
    for i in range(row.size):
        moves = abs(row[i]) > epsilon
        counts[i] += np.int32(moves)
        row[i] = row[i] if moves else np.float32(0)


@njit(**_OPTIONS)
def _add_boosted(row: Array, boost: float, counts: Array, total: Array) -> None:
    for i in range(row.size):
        total[i] += (boost if counts[i] == 1 else 1.0) * np.float64(row[i])


@njit(types.void(_ROWS, types.float32, _SUMS, _SUMS), **_OPTIONS)
def mean_of_moved(models: Array, epsilon: np.float32, boosts: Array, moves: Array) -> None:
    """The mean of what moves an entry by more than `epsilon`, times the boost of a model that moves
    it alone; other entries of `models` become 0."""
    every = np.empty(_BLOCK, np.int32)
    for start in range(0, moves.size, _BLOCK):
        total = moves[start : min(moves.size, start + _BLOCK)]
        stop, counts = start + total.size, every[: total.size]
        counts[:] = 0
        total[:] = 0
        for k in range(models.shape[0]):
            _add_if_moved(models[k, start:stop], epsilon, counts)
        for k in range(models.shape[0]):
            _add_boosted(models[k, start:stop], boosts[k], counts, total)
        for i in range(total.size):
            total[i] /= np.float64(max(counts[i], np.int32(1)))


@njit(**_OPTIONS)
def _add(row: Array, total: Array) -> None:
    for i in range(row.size):
        total[i] += np.float64(row[i])


@njit(**_OPTIONS)
def _add_squares(row: Array, mean: Array, squares: Array) -> None:
    for i in range(row.size):
        apart = np.float64(row[i]) - mean[i]
        squares[i] += apart * apart


@njit(**_OPTIONS)
def _variances(models: Array, start: int, total: Array, mean: Array, found: Array) -> None:
    """Of a block of entries over the models, float64 of the block's size; their sums as well."""
    stop, count = start + found.size, np.float64(models.shape[0])
    total[:] = 0
    found[:] = 0
    for k in range(models.shape[0]):
        _add(models[k, start:stop], total)
    for i in range(found.size):
        mean[i] = total[i] / count
    for k in range(models.shape[0]):
        _add_squares(models[k, start:stop], mean, found)
    for i in range(found.size):
        found[i] /= count


@njit(types.void(_ROWS, _SUMS), **_OPTIONS)
def _fill_variances(models: Array, found: Array) -> None:
    total, mean = np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, found.size, _BLOCK):
        block = found[start : min(found.size, start + _BLOCK)]
        _variances(models, start, total[: block.size], mean[: block.size], block)


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
    total, mean, variances = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, models.shape[1], _BLOCK):
        size = min(models.shape[1] - start, _BLOCK)
        _variances(models, start, total[:size], mean[:size], variances[:size])
        for k in range(models.shape[0]):
            row, found = models[k, start : start + size], sums[k]
            for i in range(size):
                value = np.float64(row[i]) if variances[i] >= least else 0.0
                found += value * value
            sums[k] = found


@njit(**_OPTIONS)
def _add_agreeing(
    row: Array, weight: float, total: Array, variances: Array, least: float, above: Array,
    below: Array,
) -> None:  # fmt: skip
    """Set entries that are not selected to zero, and add those of the sign of `total`."""
    for i in range(row.size):
        row[i] = row[i] if variances[i] >= least else np.float32(0)
        value = np.float64(row[i])
        agrees = ((value > 0) & (total[i] > 0)) | ((value < 0) & (total[i] < 0))
        own = weight if agrees else 0.0
        above[i] += own * value
        below[i] += own


@njit(types.void(_ROWS, _F64, _SUMS, _SUMS), **_OPTIONS)
def merge_selected(models: Array, least: float, weights: Array, moves: Array) -> None:
    """The weighted mean of the entries of the sign of their sum, where the variance is at least
    `least`; other entries of `models` become 0."""
    sums, mean = np.empty(_BLOCK), np.empty(_BLOCK)
    variances, divisors = np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, moves.size, _BLOCK):
        above = moves[start : min(moves.size, start + _BLOCK)]
        size = above.size
        total, below = sums[:size], divisors[:size]
        _variances(models, start, total, mean[:size], variances[:size])
        above[:] = 0
        below[:] = 0
        for k in range(models.shape[0]):
            row = models[k, start : start + size]
            _add_agreeing(row, weights[k], total, variances, least, above, below)
        for i in range(size):
            above[i] = above[i] / below[i] if below[i] > 0 else 0.0
