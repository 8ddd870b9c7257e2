"""Inner products of all pairs of rows, compiled, in an order that the rows alone decide.

Model: a product of two float32 values is exact in float64. Entry k of a chunk of 2048 is added to
sum k % 32 of its pair; the 32 sums are added in order at the end. BLAS would be as fast, but it
adds in an order that depends on how many rows there are and on the CPU, so that the same two
models would have other bits beside a third one.
Invariant: the product of two rows depends on these rows alone, not on the other rows, the order
of the two, or the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import types

from raylab.compiled import njit

_CHUNK, _SUMS = 2048, 32
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "boundscheck": False}
Array = np.ndarray


@njit(**_OPTIONS)
def _add(a: Array, b: Array, sums: Array) -> None:
    """Add one chunk of a pair to its sums."""
    found = np.zeros(_SUMS)
    whole = a.size // _SUMS * _SUMS
    for k in range(0, whole, _SUMS):
        for place in range(_SUMS):
            found[place] += np.float64(a[k + place]) * np.float64(b[k + place])
    for k in range(whole, a.size):
        found[k - whole] += np.float64(a[k]) * np.float64(b[k])
    for place in range(_SUMS):
        sums[place] += found[place]


@njit(**_OPTIONS)
def _add_chunk(rows: Array, fresh: Array, sums: Array) -> None:
    """Add one chunk of all pairs."""
    for i in range(rows.shape[0]):
        for j in range(i, rows.shape[0]):
            if i == j or fresh[i] or fresh[j]:
                _add(rows[i], rows[j], sums[i, j])


_ROWS = types.Array(types.float32, 2, "C", readonly=True)


@njit(types.void(_ROWS, types.boolean[::1], types.float64[:, ::1]), **_OPTIONS)
def _fill(rows: Array, fresh: Array, products: Array) -> None:
    count, size = rows.shape
    sums = np.zeros((count, count, _SUMS))
    for start in range(0, size, _CHUNK):
        _add_chunk(rows[:, start : min(size, start + _CHUNK)], fresh, sums)
    for i in range(count):
        for j in range(i, count):
            for place in range(_SUMS):
                products[i, j] += sums[i, j, place]
            products[j, i] = products[i, j]


def dot_products(rows: torch.Tensor, fresh: np.ndarray) -> torch.Tensor:
    """float64 (N, N): the products of float32 `rows` (N, entries) on the CPU.

    fresh: bool (N,); zero for two different rows that are both not fresh.
    """
    products = np.zeros((len(rows), len(rows)))
    _fill(rows.contiguous().numpy(), fresh, products)
    return torch.from_numpy(products)
