"""Blocks of the product of two LoRA factors, compiled: a delta that is never held whole.

Model: an entry of scale * (up @ down) is a sum over the rank, taken in the order of the rank by
fused multiply-adds in float32, times the scale. The delta of a chain of adapters is the sum of its
products in float32, the oldest first. A scan forms a block of some rows and columns, small enough
for the first-level cache, and uses it before it forms the next.
Why numba: BLAS writes whole products to memory, where they are read again to be subtracted, and
needs Python, and so its lock, between two products: two threads were 1.7 times as fast as one.
Above MOST_RANK BLAS is so much faster at the product itself that callers take it.
Invariant: an entry's bits depend on its row of B, its column of A and the scale alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raylab.compiled import njit, types

if TYPE_CHECKING:
    import torch

    from raylab.weights.adapter_parts import Factors

MOST_RANK = 32
COLUMNS = 256
"""Columns of a block: 16 rows of these are half of a small first-level cache."""

Terms = tuple["Factors", ...]
"""The factors of each adapter of a chain, the oldest first; none for a delta of zeros."""

_FUSED = {"contract", "nsz"}
Array = np.ndarray
FACTOR = types.Array(types.float32, 2, "C", readonly=True)
OPERANDS = (FACTOR, FACTOR, types.int64[::1], types.float32[::1])
"""The types of what `operands` gives."""


@njit(fastmath=_FUSED)
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


@njit(fastmath=_FUSED)
def _add_one(out: Array, wide: int, up: Array, down: Array, k: int, first: int) -> None:
    x = down[k, first : first + wide]
    for i in range(up.shape[0]):
        u, row = up[i, k], out[i * wide : (i + 1) * wide]
        for j in range(wide):
            row[j] += u * x[j]


@njit()
def _fill_product(out: Array, up: Array, down: Array, scale: float, first: int) -> None:
    """Columns from `first` on of scale * (up @ down), row after row."""
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


@njit()
def fill_block(
    out: Array, more: Array, up: Array, down: Array, ends: Array, scales: Array, first: int
) -> None:
    """Columns from `first` on of a delta, row after row; out: (rows * columns,), more: as large.

    up, down, ends, scales: as `operands` gives them, of the rows of the block alone.
    """
    if ends.size == 0:
        out[:] = np.float32(0)
        return
    _fill_product(out, up[:, : ends[0]], down[: ends[0]], scales[0], first)
    for k in range(1, ends.size):
        start, stop = ends[k - 1], ends[k]
        _fill_product(more, up[:, start:stop], down[start:stop], scales[k], first)
        for i in range(out.size):
            out[i] += more[i]


def operands(
    terms: Terms, start: int, stop: int, columns: int
) -> tuple[Array, Array, Array, Array]:
    """(B, A, ends, scales) of rows [start, stop) of a delta, as the loops take them: the factors of
    all terms side by side, where those of each term end, and the scale of each."""
    ends = np.cumsum([factors.rank for factors in terms], dtype=np.int64)
    scales = np.array([factors.scale for factors in terms], dtype=np.float32)
    ups = [factors.up[start:stop].numpy() for factors in terms]
    downs = [factors.down.numpy() for factors in terms]
    if len(terms) != 1:
        ups = [np.concatenate([np.empty((stop - start, 0), np.float32), *ups], axis=1)]
        downs = [np.concatenate([np.empty((0, columns), np.float32), *downs])]
    return np.ascontiguousarray(ups[0]), np.ascontiguousarray(downs[0]), ends, scales


def operands_of_two(a: Terms, b: Terms, start: int, stop: int) -> tuple[int, tuple[Array, ...]]:
    """(the entries of rows [start, stop), the operands of both deltas, one of which has terms)."""
    columns = (a or b)[0].down.shape[1]
    both = (*operands(a, start, stop, columns), *operands(b, start, stop, columns))
    return (stop - start) * columns, both


@njit(types.void(types.float32[::1], types.float32[::1], *OPERANDS))
def _fill(out: Array, more: Array, up: Array, down: Array, ends: Array, scales: Array) -> None:
    fill_block(out, more, up, down, ends, scales, 0)


def product(terms: Terms, start: int, stop: int) -> torch.Tensor:
    """Rows [start, stop) of the delta of some terms, float32 (rows, columns), of the same bits."""
    import torch

    columns = terms[0].down.shape[1]
    out = np.empty((stop - start) * columns, np.float32)
    if out.size:
        _fill(out, np.empty_like(out), *operands(terms, start, stop, columns))
    return torch.from_numpy(out).view(stop - start, -1)


@dataclass(frozen=True)
class ProductRows:
    """Rows [start, stop) of the delta of some terms, which is not multiplied out yet."""

    terms: Terms
    start: int
    stop: int

    @property
    def columns(self) -> int:
        """How many entries a row has."""
        return self.terms[0].down.shape[1]

    def values(self) -> torch.Tensor:
        """The rows, float32, of the bits that loops form."""
        return product(self.terms, self.start, self.stop)
