"""The steps of merging, compiled: one loop over a tile of rows for each step.

Model: `raylab.merge.steps` defines each step; those that change a dtype are in
`raylab.merge.compiled_rows`, those that chance drops entries by in `raylab.merge.compiled_draws`
and `raylab.merge.compiled_ranks`.
Invariant: no loop is compiled with relaxed arithmetic, and no product is fused with a sum.
`raylab.merge.torch_steps` does the same steps in torch, bit for bit.

Why numba: in plain torch every operation of a step writes its result to memory, and
`disjoint_merge` takes a dozen per model. Compiled, it keeps its four sums in blocks that stay in
the first-level cache, and is twenty times as fast (1.5 ns an entry for two models, torch 31). numba
releases Python's lock, and keeps compiled code on disk. The loops write into memory that they
are given: fresh memory for every tile costs more than the loops. They have signatures, because
numba took a third of a second to infer the types of a call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.merge.compiled_draws import drop
from raylab.merge.compiled_ranks import drop_by_rank
from raylab.merge.compiled_rows import (
    add,
    count_non_finite,
    count_nonzero,
    narrow,
    subtract,
    widen,
)
from raylab.merge.steps import CANCELLED, INFINITE_FROM
from raylab.reduce.intrinsics import on_stack
from raylab.weights.safetensors_reader import DTYPES

__all__ = [
    "add", "add_to_base", "count_non_finite", "count_nonzero", "disjoint_merge", "drop",
    "drop_by_rank", "narrow", "subtract", "trim", "weighted_sum", "widen",
]  # fmt: skip

Array = np.ndarray

_BLOCK = 1024
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_ROW, _ROWS, _SUMS = types.float32[::1], types.float32[:, ::1], types.float64[::1]
_WIDE = types.float64[:, ::1]
_INT, _F64, _BOOL = types.int64, types.float64, types.boolean


@njit(_INT(_ROW, types.float32, types.float32), **_OPTIONS)
def _trim(row: Array, threshold: np.float32, upper: np.float32) -> int:
    kept = 0
    for i in range(row.size):
        value = row[i]
        stays = (abs(value) >= threshold) & (abs(value) <= upper) & (value != 0)
        kept += stays
        row[i] = value if stays else np.float32(0)
    return kept


@njit(**_OPTIONS)
def _vote(
    row: Array,
    other: Array,
    factors: Array,
    weights: Array,
    up: Array,
    down: Array,
    up_weight: Array,
    down_weight: Array,
) -> None:
    """Two models at once, one after the other: half the traffic of one at a time."""
    factor, weight, factor_2, weight_2 = factors[0], weights[0], factors[1], weights[1]
    for i in range(row.size):
        x, y = factor * np.float64(row[i]), factor_2 * np.float64(other[i])
        rises = up[i] + (x if x > 0 else 0.0)
        falls = down[i] + (-x if x < 0 else 0.0)
        for_up = up_weight[i] + (weight if x > 0 else 0.0)
        for_down = down_weight[i] + (weight if x < 0 else 0.0)
        up[i] = rises + (y if y > 0 else 0.0)
        down[i] = falls + (-y if y < 0 else 0.0)
        up_weight[i] = for_up + (weight_2 if y > 0 else 0.0)
        down_weight[i] = for_down + (weight_2 if y < 0 else 0.0)


@njit(**_OPTIONS)
def _count_votes(
    up: Array,
    down: Array,
    up_weight: Array,
    down_weight: Array,
    normalize: bool,
    least: float,
    merged: Array,
) -> None:
    for i in range(merged.size):
        rises = up[i] > down[i]
        falls = down[i] > up[i]
        total = up[i] if rises else (-down[i] if falls else 0.0)
        weight = up_weight[i] if rises else down_weight[i]
        divisor = weight if (rises | falls) & (abs(weight) > least) else 1.0
        merged[i] = total / divisor if normalize else total


@njit([types.void(rows, _SUMS, _SUMS, _BOOL, _SUMS) for rows in (_ROWS, _WIDE)], **_OPTIONS)
def merge_disjoint(
    deltas: Array, factors: Array, weights: Array, normalize: bool, merged: Array
) -> None:
    up, down = on_stack(_BLOCK, np.float64), on_stack(_BLOCK, np.float64)
    up_weight, down_weight = on_stack(_BLOCK, np.float64), on_stack(_BLOCK, np.float64)
    no_votes = on_stack(_BLOCK, deltas.dtype)
    no_votes[:] = 0
    largest = 0.0
    for weight in weights:
        largest = max(largest, abs(weight))
    least = CANCELLED * largest
    for start in range(0, merged.size, _BLOCK):
        stop = min(merged.size, start + _BLOCK)
        up[:] = 0
        down[:] = 0
        up_weight[:] = 0
        down_weight[:] = 0
        for k in range(0, deltas.shape[0], 2):
            row = deltas[k, start:stop]
            other = deltas[k + 1, start:stop] if k + 1 < deltas.shape[0] else no_votes[: row.size]
            of = slice(k, k + 2)
            _vote(row, other, factors[of], weights[of], up, down, up_weight, down_weight)
        _count_votes(up, down, up_weight, down_weight, normalize, least, merged[start:stop])


@njit(**_OPTIONS)
def _add_row(row: Array, factor: float, merged: Array) -> None:
    for i in range(row.size):
        merged[i] += factor * np.float64(row[i])


@njit([types.void(rows, _SUMS, _F64, _SUMS) for rows in (_ROWS, _WIDE)], **_OPTIONS)
def sum_weighted(deltas: Array, factors: Array, divisor: float, merged: Array) -> None:
    for start in range(0, merged.size, _BLOCK):
        part = merged[start : min(merged.size, start + _BLOCK)]
        part[:] = 0
        for k in range(factors.size):
            _add_row(deltas[k, start : start + part.size], factors[k], part)
        if divisor != 1.0:
            for i in range(part.size):
                part[i] /= divisor


@njit(_INT(_ROW, _SUMS, _F64, _BOOL, _F64), **_OPTIONS)
def add_block(
    base: Array, merged: Array, scaling: float, to_odd: bool, infinite_from: float
) -> int:
    """`to_odd`: an inexact entry takes the neighbour in float32 whose last bit is 1."""
    nearest = on_stack(_BLOCK, np.float32)
    bits = nearest.view(np.int32)
    bad = 0
    for start in range(0, base.size, _BLOCK):
        own = base[start : min(base.size, start + _BLOCK)]
        moves = merged[start : start + own.size]
        for i in range(own.size):
            exact = np.float64(own[i]) + moves[i] * scaling
            moves[i] = exact if moves[i] != 0 else np.float64(own[i])
            nearest[i] = np.float32(moves[i])
            bad += not abs(moves[i]) < infinite_from
        if to_odd:
            for i in range(own.size):
                widened = np.float64(nearest[i])
                beyond = np.int32(1) if abs(widened) > abs(moves[i]) else np.int32(0)
                bits[i] = bits[i] if widened == moves[i] else (bits[i] - beyond) | np.int32(1)
        for i in range(own.size):
            own[i] = nearest[i]
    return bad


def trim(delta: Array, threshold: float, upper: float | None = None) -> int:
    """Set entries whose magnitude is below `threshold`, or above `upper`, to zero; return how many
    are not zero."""
    return int(
        _trim(delta, np.float32(threshold), np.float32(math.inf if upper is None else upper))
    )


def disjoint_merge(
    deltas: Array,
    factors: Sequence[float],
    weights: Sequence[float],
    normalize: bool,
    merged: Array,
) -> None:
    """Write the merged moves of the elected sign into `merged`."""
    # Two models vote at once; an odd number of models is padded with one that has no vote.
    padded = (np.array([*given, 0.0]) for given in (factors, weights))
    merge_disjoint(deltas, *padded, normalize, merged)


def weighted_sum(deltas: Array, factors: Sequence[float], divisor: float, merged: Array) -> None:
    """Write the sum of the x_i over `divisor` into `merged`."""
    sum_weighted(deltas, np.array(factors), divisor, merged)


def add_to_base(base: Array, merged: Array, scaling: float, result: Array) -> int:
    """Write base + scaling * merged into `result`; return how many entries overflow its dtype."""
    limit = INFINITE_FROM[_NAMES[result.dtype]]
    overflows = add_block(base, merged, scaling, result.dtype != np.float32, limit)
    narrow(base, result)
    return int(overflows)
