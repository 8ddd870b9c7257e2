"""Loops of methods that look at whole tensors, compiled: no float64 copy of a model's rows.

Model: `raylab.merge.whole_tensors` defines each rule. models: float32 (models, entries), one piece.
Inner products are in `raylab.merge.compiled_products`.
Invariant: sums over models go in their order. No product is fused with a sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.reduce.intrinsics import on_stack

Array = np.ndarray

_BLOCK = 1024
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_ROW, _ROWS = types.float32[::1], types.float32[:, ::1]
_I64, _F64 = types.int64, types.float64
_SUMS = types.float64[::1]


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


@njit(**_OPTIONS)
def _count_if_moved(row: Array, epsilon: np.float32, counts: Array) -> None:
    for i in range(row.size):
        counts[i] += np.int32(abs(row[i]) > epsilon)


@njit(**_OPTIONS)
def _count_moved(row: Array, epsilon: np.float32, counts: Array) -> tuple[int, int]:
    """Entries that this model moves with others, and alone; `counts`: by how many models."""
    every, alone = np.int32(0), np.int32(0)
    for i in range(row.size):
        moves = np.int32(abs(row[i]) > epsilon)
        every += moves
        alone += moves & np.int32(counts[i] == 1)
    return int(every - alone), int(alone)


@njit(types.void(_ROWS, types.float32, _I64[:, ::1]), **_OPTIONS)
def count_moved(models: Array, epsilon: np.float32, counts: Array) -> None:
    """Add to `counts`, int64 (2, models), the entries that a model moves by more than `epsilon`
    with others, and alone."""
    every = on_stack(_BLOCK, np.int32)
    for start in range(0, models.shape[1], _BLOCK):
        stop = min(models.shape[1], start + _BLOCK)
        each = every[: stop - start]
        each[:] = 0
        for k in range(models.shape[0]):
            _count_if_moved(models[k, start:stop], epsilon, each)
        for k in range(models.shape[0]):
            shared, alone = _count_moved(models[k, start:stop], epsilon, each)
            counts[0, k] += shared
            counts[1, k] += alone


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


@njit(**_OPTIONS)
def _divide_by_counts(total: Array, counts: Array, is_two: bool) -> None:
    """Nothing divides by 0; to halve is much faster than to divide."""
    if is_two:
        for i in range(total.size):
            total[i] *= 0.5 if counts[i] == 2 else 1.0
        return
    for i in range(total.size):
        total[i] /= np.float64(max(counts[i], np.int32(1)))


@njit(types.void(_ROWS, types.float32, _SUMS, _SUMS), **_OPTIONS)
def mean_of_moved(models: Array, epsilon: np.float32, boosts: Array, moves: Array) -> None:
    """The mean of what moves an entry by more than `epsilon`, times the boost of a model that moves
    it alone; other entries of `models` become 0."""
    every = on_stack(_BLOCK, np.int32)
    for start in range(0, moves.size, _BLOCK):
        total = moves[start : min(moves.size, start + _BLOCK)]
        stop, counts = start + total.size, every[: total.size]
        counts[:] = 0
        total[:] = 0
        for k in range(models.shape[0]):
            _add_if_moved(models[k, start:stop], epsilon, counts)
        for k in range(models.shape[0]):
            _add_boosted(models[k, start:stop], boosts[k], counts, total)
        _divide_by_counts(total, counts, models.shape[0] <= 2)


@njit(inline="always")
def _over(value: Any, count: Any, inverse: Any) -> Any:
    """value / count: a product with the inverse where this is exact, which is much faster."""
    return value * inverse if inverse != 0.0 else value / count


@njit(inline="always")
def _exact_inverse(count: Any) -> Any:
    """1 / count where it is exact, and 0 elsewhere."""
    return 1.0 / np.float64(count) if count & (count - 1) == 0 else 0.0


@njit(**_OPTIONS)
def _add(row: Array, total: Array) -> None:
    for i in range(row.size):
        total[i] += np.float64(row[i])


@njit(**_OPTIONS)
def _add_squares(row: Array, total: Array, count: float, inverse: float, squares: Array) -> None:
    for i in range(row.size):
        apart = np.float64(row[i]) - _over(total[i], count, inverse)
        squares[i] += apart * apart


@njit(**_OPTIONS)
def _variances(models: Array, start: int, total: Array, found: Array) -> None:
    """Of a block of entries over the models, float64 of the block's size; their sums as well."""
    stop, count = start + found.size, np.float64(models.shape[0])
    inverse = _exact_inverse(models.shape[0])
    total[:] = 0
    found[:] = 0
    for k in range(models.shape[0]):
        _add(models[k, start:stop], total)
    for k in range(models.shape[0]):
        _add_squares(models[k, start:stop], total, count, inverse, found)
    for i in range(found.size):
        found[i] = _over(found[i], count, inverse)


@njit(types.void(_ROWS, _SUMS), **_OPTIONS)
def fill_variances(models: Array, found: Array) -> None:
    """The variance of each entry over the models."""
    total = on_stack(_BLOCK, np.float64)
    for start in range(0, found.size, _BLOCK):
        block = found[start : min(found.size, start + _BLOCK)]
        _variances(models, start, total[: block.size], block)


@njit(**_OPTIONS)
def _select(variances: Array, least: float, places: Array) -> int:
    """Write the places of variances of at least `least`; return how many they are."""
    count = 0
    for i in range(variances.size):
        places[count] = i
        count += variances[i] >= least
    return count


@njit(**_OPTIONS)
def _sum_squares(row: Array, other: Array, places: Array, sums: Array) -> None:
    """Two models at once: each sum waits for itself alone."""
    first, second = sums[0], sums[1]
    for p in range(places.size):
        one, two = np.float64(row[places[p]]), np.float64(other[places[p]])
        first += one * one
        second += two * two
    sums[0], sums[1] = first, second


@njit(types.void(_ROWS, _F64, _SUMS), **_OPTIONS)
def sum_selected(models: Array, least: float, sums: Array) -> None:
    """Add each model's sum of squares over the entries whose variance is at least `least`."""
    total, variances = on_stack(_BLOCK, np.float64), on_stack(_BLOCK, np.float64)
    every, pair = on_stack(_BLOCK, np.int32), on_stack(2, np.float64)
    for start in range(0, models.shape[1], _BLOCK):
        size = min(models.shape[1] - start, _BLOCK)
        _variances(models, start, total[:size], variances[:size])
        places = every[: _select(variances[:size], least, every)]
        for k in range(0, models.shape[0], 2):
            other = min(k + 1, models.shape[0] - 1)
            pair[0], pair[1] = sums[k], sums[other]
            rows = models[k, start : start + size], models[other, start : start + size]
            _sum_squares(*rows, places, pair)
            sums[other] = pair[1]
            sums[k] = pair[0]


@njit(**_OPTIONS)
def _clear_unselected(row: Array, variances: Array, least: float) -> None:
    for i in range(row.size):
        row[i] = row[i] if variances[i] >= least else np.float32(0)


@njit(**_OPTIONS)
def _add_agreeing(row: Array, weight: float, total: Array, above: Array, below: Array) -> None:
    """Add the entries of the sign of `total`, and their weights."""
    for i in range(row.size):
        value = np.float64(row[i])
        agrees = ((value > 0) & (total[i] > 0)) | ((value < 0) & (total[i] < 0))
        own = weight if agrees else 0.0
        above[i] += own * value
        below[i] += own


@njit(types.void(_ROWS, _F64, _SUMS, _SUMS), **_OPTIONS)
def merge_selected(models: Array, least: float, weights: Array, moves: Array) -> None:
    """The weighted mean of the entries of the sign of their sum, where the variance is at least
    `least`; other entries of `models` become 0."""
    sums, variances = on_stack(_BLOCK, np.float64), on_stack(_BLOCK, np.float64)
    divisors = on_stack(_BLOCK, np.float64)
    for start in range(0, moves.size, _BLOCK):
        above = moves[start : min(moves.size, start + _BLOCK)]
        size = above.size
        total, below, found = sums[:size], divisors[:size], variances[:size]
        _variances(models, start, total, found)
        above[:] = 0
        below[:] = 0
        for k in range(models.shape[0]):
            row = models[k, start : start + size]
            _clear_unselected(row, found, least)
            _add_agreeing(row, weights[k], total, above, below)
        for i in range(size):
            divisor = below[i] if below[i] > 0 else 1.0
            above[i] = above[i] / divisor if below[i] > 0 else 0.0
