"""Arcee Fusion: which entries of a model matter enough to replace those of the base.

Model: an entry's importance is |d| times how far its row's softmax has moved from the base's,
sum_j p_j log(p_j / q_j), where both softmax values have 1e-8 added. Entries stay whose importance
is at least median + 1.5 (third - first quartile) of the whole tensor. A quartile is the value of
rank floor(q (n - 1)) of the sorted n. A row is all entries that differ in the last index alone. No
paper describes it; these are the definitions of mergekit 0.1.5's arcee_fusion, but that takes the
quartiles of a random sample of a tensor with more than a million entries.
Invariant: float64; how far a row has moved depends on that row alone, and is 0 where no entry has.
Few rows are in float64 at a time, in memory that stays near the core.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.merge.order_statistics import Values, values_at

Array = np.ndarray

_FLOOR = 1e-8
_TOGETHER = 1 << 16
"""Entries of the rows that are treated at a time."""
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_ROW, _SUMS, _I64, _F64 = types.float32[::1], types.float64[::1], types.int64, types.float64


def row_moves(moves: Array, base: Array, width: int) -> Array:
    """How far each row has moved, float64 (rows,). moves, base: float32 (rows * width,); `width`:
    of the last index."""
    moves, base = moves.reshape(-1, width), base.reshape(-1, width)
    found = np.zeros(len(moves))
    moved = np.flatnonzero(moves.any(axis=1))
    step = max(1, _TOGETHER // width)
    for start in range(0, len(moved), step):
        own = moved[start : start + step]
        found[own] = _divergences(moves[own], base[own])
    return found


def _divergences(moves: Array, base: Array) -> Array:
    q = base.astype(np.float64)
    p = q + moves
    for values in (p, q):
        values -= values.max(axis=1, keepdims=True)
        np.exp(values, out=values)
        values /= values.sum(axis=1, keepdims=True)
        values += _FLOOR
    np.divide(p, q, out=q)
    np.log(q, out=q)
    q *= p
    return np.asarray(q.sum(axis=1))


def threshold(importances: Values) -> float:
    """The least importance that stays."""

    def quartiles(count: int, zeros: int) -> list[int]:
        del zeros
        return [(count - 1) // 4, (count - 1) // 2, 3 * (count - 1) // 4]

    first, middle, third = values_at(importances, quartiles)
    return middle + 1.5 * (third - first)


@njit(types.void(_ROW, _ROW, _SUMS, _I64, _SUMS), **_OPTIONS)
def fill_importances(row: Array, base: Array, moved: Array, width: int, found: Array) -> None:
    """The importance of each entry. moved: how far each row has moved."""
    for r in range(moved.size):
        own = moved[r]
        for i in range(r * width, (r + 1) * width):
            before = np.float64(base[i])
            found[i] = abs((before + np.float64(row[i])) - before) * own


@njit(types.void(_ROW, _ROW, _SUMS, _I64, _F64, _SUMS), **_OPTIONS)
def keep_important(
    row: Array, base: Array, moved: Array, width: int, least: float, moves: Array
) -> None:
    """Set entries of an importance below `least` to zero, and write all into `moves`."""
    fill_importances(row, base, moved, width, moves)
    for i in range(row.size):
        row[i] = row[i] if moves[i] >= least else np.float32(0)
        moves[i] = np.float64(row[i])
