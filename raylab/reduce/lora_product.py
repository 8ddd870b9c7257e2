"""Blocks of the product of two LoRA factors, compiled: a delta that is never held whole.

Model: an entry of scale * (up @ down) is a sum over the rank, taken in the order of the rank by
fused multiply-adds in float32, times the scale. A scan forms a block of some rows and columns of
both models, small enough for the first-level cache, and uses it before it forms the next.
Why numba: BLAS writes whole products to memory, where they are read again to be subtracted, and
needs Python, and so its lock, between two products: two threads were 1.7 times as fast as one.
Above MOST_RANK BLAS is so much faster at the product itself that callers take it.
Invariant: an entry's bits depend on its row of B, its column of A and the scale alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types

from raylab.compiled import njit

if TYPE_CHECKING:
    import torch

    from raylab.weights.adapter_parts import Factors

MOST_RANK = 32
COLUMNS = 256
"""Columns of a block: 16 rows of these are half of a small first-level cache."""

_FUSED = {"contract", "nsz"}
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "boundscheck": False}
Array = np.ndarray
FACTOR = types.Array(types.float32, 2, "C", readonly=True)


@njit(**_OPTIONS, fastmath=_FUSED)
def _add_eight(out: Array, wide: int, up: Array, down: Array, k: int, first: int) -> None:
    last = first + wide
    x0, x1 = down[k, first:last], down[k + 1, first:last]
    x2, x3 = down[k + 2, first:last], down[k + 3, first:last]
    x4, x5 = down[k + 4, first:last], down[k + 5, first:last]
    x6, x7 = down[k + 6, first:last], down[k + 7, first:last]
    for i in range(up.shape[0]):
        u0, u1, u2, u3 = up[i, k], up[i, k + 1], up[i, k + 2], up[i, k + 3]
        u4, u5, u6, u7 = up[i, k + 4], up[i, k + 5], up[i, k + 6], up[i, k + 7]
        row = out[i * wide : (i + 1) * wide]
        for j in range(wide):
            total = (((row[j] + u0 * x0[j]) + u1 * x1[j]) + u2 * x2[j]) + u3 * x3[j]
            row[j] = (((total + u4 * x4[j]) + u5 * x5[j]) + u6 * x6[j]) + u7 * x7[j]


@njit(**_OPTIONS, fastmath=_FUSED)
def _add_one(out: Array, wide: int, up: Array, down: Array, k: int, first: int) -> None:
    x = down[k, first : first + wide]
    for i in range(up.shape[0]):
        u, row = up[i, k], out[i * wide : (i + 1) * wide]
        for j in range(wide):
            row[j] += u * x[j]


@njit(**_OPTIONS)
def fill_block(out: Array, up: Array, down: Array, scale: float, first: int) -> None:
    """Columns from `first` on of scale * (up @ down), row after row; out: (rows * columns,)."""
    rows, rank = up.shape
    wide = out.size // rows
    out[:] = np.float32(0)
    whole = rank // 8 * 8
    for k in range(0, whole, 8):
        _add_eight(out, wide, up, down, k, first)
    for k in range(whole, rank):
        _add_one(out, wide, up, down, k, first)
    for i in range(out.size):
        out[i] *= scale


def operands(factors: Factors, start: int, stop: int) -> tuple[Array, Array, np.float32]:
    """(B, A, scale) of rows [start, stop) of a low-rank delta, as the loops take them."""
    up = factors.up[start:stop].contiguous().numpy()
    return up, factors.down.contiguous().numpy(), np.float32(factors.scale)


@njit(types.void(types.float32[::1], FACTOR, FACTOR, types.float32), **_OPTIONS)
def _fill(out: Array, up: Array, down: Array, scale: float) -> None:
    fill_block(out, up, down, scale, 0)


def product(factors: Factors, start: int, stop: int) -> torch.Tensor:
    """Rows [start, stop) of a low-rank delta, float32 (rows, columns), of the same bits."""
    import torch

    out = np.empty((stop - start) * factors.down.shape[1], np.float32)
    if out.size:
        _fill(out, *operands(factors, start, stop))
    return torch.from_numpy(out).view(stop - start, -1)
