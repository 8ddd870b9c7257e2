"""Inner products of pairs of rows, compiled, in an order that the rows alone decide.

Model: a product of two float32 values is exact in float64. Entry k of a chunk of 2048 is added to
sum k % 32 of its pair; the 32 sums are added in order at the end. BLAS would be as fast, but it
adds in an order that depends on how many rows there are and on the CPU, so that the same two
models would have other bits beside a third one.
Invariant: the product of two rows depends on these rows alone, not on the other rows, the order
of the two, or the CPU.
"""

from __future__ import annotations

import numpy as np
import torch

from raylab.compiled import njit, types
from raylab.reduce.intrinsics import on_stack

_CHUNK, _SUMS = 2048, 32
_TOGETHER = 16
"""Rows of a block of pairs, whose chunks stay in the second-level cache."""
Array = np.ndarray


@njit()
def _add(a: Array, b: Array, sums: Array) -> None:
    """Add one chunk of a pair to its sums."""
    found = on_stack(_SUMS, np.float64)
    found[:] = 0
    whole = a.size // _SUMS * _SUMS
    for k in range(0, whole, _SUMS):
        for place in range(_SUMS):
            found[place] += np.float64(a[k + place]) * np.float64(b[k + place])
    for k in range(whole, a.size):
        found[k - whole] += np.float64(a[k]) * np.float64(b[k])
    for place in range(_SUMS):
        sums[place] += found[place]


@njit()
def _add_chunk(part: Array, wanted: Array, first: int, second: int, sums: Array) -> None:
    """Add one chunk of all rows to the sums of a block of pairs, as `_fill_block` has it."""
    last, end = min(part.shape[0], first + _TOGETHER), min(part.shape[0], second + _TOGETHER)
    for i in range(first, last):
        for j in range(max(i, second), end):
            if wanted[i, j]:
                _add(part[i], part[j], sums[i - first, j - second])


@njit()
def _fill_block(
    rows: Array, wanted: Array, first: int, second: int, sums: Array, products: Array
) -> None:
    """The products of the rows from `first` on with those from `second` on."""
    count, size = rows.shape
    last, end = min(count, first + _TOGETHER), min(count, second + _TOGETHER)
    sums[:] = 0
    for start in range(0, size, _CHUNK):
        _add_chunk(rows[:, start : min(size, start + _CHUNK)], wanted, first, second, sums)
    for i in range(first, last):
        for j in range(max(i, second), end):
            for place in range(_SUMS):
                products[i, j] += sums[i - first, j - second, place]
            products[j, i] = products[i, j]


_ROWS = types.Array(types.float32, 2, "C", readonly=True)


@njit(types.void(_ROWS, types.boolean[:, ::1], types.float64[:, :, ::1], types.float64[:, ::1]))
def _fill(rows: Array, wanted: Array, sums: Array, products: Array) -> None:
    for first in range(0, rows.shape[0], _TOGETHER):
        for second in range(first, rows.shape[0], _TOGETHER):
            _fill_block(rows, wanted, first, second, sums, products)


def dot_products(rows: torch.Tensor, wanted: np.ndarray) -> torch.Tensor:
    """float64 (N, N): the products of float32 `rows` (N, entries) on the CPU.

    wanted: bool (N, N), symmetric; zero stands for the others.
    """
    products = np.zeros((len(rows), len(rows)))
    sums = np.empty((_TOGETHER, _TOGETHER, _SUMS))
    _fill(rows.contiguous().numpy(), np.ascontiguousarray(wanted), sums, products)
    return torch.from_numpy(products)
