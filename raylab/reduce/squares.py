"""Sums of squares of weights, which relative norms are relative to.

Model: a sum belongs to one tile, and adds blocks of 4096 entries in their order, in float64.
Invariant: its bits depend on the tile and the CPU, and on nothing that is computed beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.reduce.entries import Entries, as_array, widened
from raylab.reduce.intrinsics import as_float

SQUARES_BLOCK = 4096
"""The entries that `add_squares_bf16` takes at a time."""
_HALVES = types.Array(types.uint16, 1, "C", readonly=True)
_FLOATS = types.Array(types.float32, 1, "C", readonly=True)


@njit(fastmath={"reassoc", "contract"})
def add_squares_bf16(total: float, values: np.ndarray) -> float:
    """`total` plus the squares of a block of bf16 given as uint16."""
    for i in range(values.size):
        value: Any = as_float(np.uint32(values[i]) << np.uint32(16))
        total += np.float64(value) * np.float64(value)
    return total


@njit(types.float64(_HALVES))
def _squares_bf16(values: np.ndarray) -> float:
    total = 0.0
    for start in range(0, values.size, SQUARES_BLOCK):
        block = values[start : min(start + SQUARES_BLOCK, values.size)]
        total = add_squares_bf16(total, block)
    return total


@njit(types.float64(_FLOATS), fastmath={"reassoc", "contract"})
def _squares(values: np.ndarray) -> float:
    total = 0.0
    for i in range(values.size):
        total += np.float64(values[i]) * np.float64(values[i])
    return total


def squares_of(values: Entries) -> float:
    """The sum of squares of a tile, in float64, in an order that its size and the CPU decide."""
    rows = as_array(values).reshape(-1)
    if rows.dtype == np.uint16:
        return float(_squares_bf16(rows))
    return float(_squares(widened(rows)))


def by_tile(values: Entries, heights: Sequence[int]) -> list[Entries]:
    """The tiles, of so many rows each, that lie one below the other in `values`."""
    if len(heights) == 1:
        return [values]
    return np.split(as_array(values), np.cumsum(heights)[:-1])


def squares_by_tile(values: Entries, heights: Sequence[int]) -> list[float]:
    """The sum of squares of each tile of `values`."""
    return [squares_of(tile) for tile in by_tile(values, heights)]
