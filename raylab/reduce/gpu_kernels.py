"""CUDA kernels of the reduction: exact sums by bucket of magnitude, and low-rank products.

Model: `add_magnitudes` reads each entry of two models once. A thread block takes up to 65,536
entries. It keeps a table of 16 exponents (2048 buckets) in shared memory: how many entries each
bucket has, the sum of their lower 16 bits, and the sum of the squares of these as two 16-bit
halves. So many entries cannot overflow 32 bits, and every GPU has the 32 KB. A glance at some
entries places the table below the largest exponent; smaller magnitudes go to global memory one by
one. At its end the block adds its table to 64-bit tables in global memory (see
`raylab.reduce.histogram` for the buckets).
Invariant: sums are integers, so the order of threads and blocks leaves no trace: they are the
integers of the CPU's loops. A product is a sum over the rank in the order of the rank by fused
multiply-adds in float32, times the scale: the bits of `raylab.reduce.lora_product`.

Why numba-cuda: its kernels use shared memory and atomics, which Triton's cannot, in the language
of the CPU's loops; its simulator runs them where there is no GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda, float32, int32, int64, uint32

from raylab.reduce.histogram import BUCKETS

TAKEN = 1 << 16
"""The most entries of a thread block: sums of so many 16-bit integers stay below 2^32."""
EXPONENTS = 256
"""Rows of a table of sums by exponent field."""
PARTS = 6
"""Columns of it: the sums over entries of top, low, top^2, top * low, low^2 >> 16 and low^2 % 2^16,
where `top` is the upper 8 bits of the significand, and `low` the lower 16."""
_SPREAD = 128
"""Buckets of one exponent."""
_SPAN = 16
"""Exponents of the table in shared memory."""
_WINDOW = _SPAN * _SPREAD


@dataclass(frozen=True)
class Kernels:
    """Compiled kernels for blocks of `threads` threads.

    add_bf16, add_float32: add |a - b| of flat bf16 (given as int16) or float32 arrays; see
    `_add_magnitudes`. fill_product: see `_fill_product`.
    """

    threads: int
    add_bf16: Any
    add_float32: Any
    fill_product: Any


def compiled(threads: int = 512) -> Kernels:
    """The kernels for blocks of `threads` threads, a multiple of 16 that divides 2048."""
    assert _WINDOW % threads == 0 and threads % _SPAN == 0
    return Kernels(
        threads,
        _add_magnitudes(threads, _bits_of_bf16),
        _add_magnitudes(threads, _bits_of_float32),
        cuda.jit(_fill_product),
    )


@cuda.jit(device=True)
def _bits_of_bf16(a: Any, b: Any, i: int, cell: Any, word: Any) -> Any:
    """The bits of |a[i] - b[i]|; `cell` and `word` are one float32 and the same memory as int32."""
    word[0] = int32(a[i]) << int32(16)
    first = cell[0]
    word[0] = int32(b[i]) << int32(16)
    cell[0] = first - cell[0]
    return word[0] & int32(0x7FFFFFFF)


@cuda.jit(device=True)
def _bits_of_float32(a: Any, b: Any, i: int, cell: Any, word: Any) -> Any:
    """The same of float32."""
    cell[0] = a[i] - b[i]
    return word[0] & int32(0x7FFFFFFF)


@cuda.jit(device=True)
def _add_to_table(table: Any, slot: int, low: Any, square: Any) -> None:
    """Add one magnitude to the table in shared memory."""
    cuda.atomic.add(table, (0, slot), uint32(1))
    if low != int32(0):
        cuda.atomic.add(table, (1, slot), uint32(low))
        cuda.atomic.add(table, (2, slot), square >> uint32(16))
        cuda.atomic.add(table, (3, slot), square & uint32(0xFFFF))


@cuda.jit(device=True)
def _add_to_memory(bits: Any, low: Any, square: Any, moments: Any, sums: Any) -> None:
    """Add one magnitude to the tables in global memory."""
    bucket, exponent = bits >> int32(16), bits >> int32(23)
    top = int64(bucket & int32(127)) + (128 if exponent > 0 else 0)
    upper, lower = int64(square >> uint32(16)), int64(square & uint32(0xFFFF))
    cuda.atomic.add(moments, (0, bucket), int64(1))
    cuda.atomic.add(moments, (1, bucket), int64(low))
    cuda.atomic.add(moments, (2, bucket), upper)
    cuda.atomic.add(moments, (3, bucket), lower)
    cuda.atomic.add(sums, (exponent, 0), top)
    cuda.atomic.add(sums, (exponent, 1), int64(low))
    cuda.atomic.add(sums, (exponent, 2), top * top)
    cuda.atomic.add(sums, (exponent, 3), top * int64(low))
    cuda.atomic.add(sums, (exponent, 4), upper)
    cuda.atomic.add(sums, (exponent, 5), lower)


@cuda.jit(device=True)
def _add_table_to_moments(table: Any, slot: int, bucket: int, moments: Any) -> None:
    """Add one bucket of the table in shared memory to that in global memory."""
    for part in range(4):
        if table[part, slot] > uint32(0):
            cuda.atomic.add(moments, (part, bucket), int64(table[part, slot]))


@cuda.jit(device=True)
def _add_table_to_sums(table: Any, first: int, last: int, exponent: int, sums: Any) -> None:
    """Add some buckets of one exponent of the table to the sums by exponent."""
    hidden = 128 if exponent > 0 else 0
    tops = firsts = squares = products = uppers = lowers = int64(0)
    for slot in range(first, last):
        top = int64(slot % _SPREAD + hidden)
        entries, low = int64(table[0, slot]), int64(table[1, slot])
        tops += entries * top
        firsts += low
        squares += entries * top * top
        products += low * top
        uppers += int64(table[2, slot])
        lowers += int64(table[3, slot])
    if tops > 0:
        cuda.atomic.add(sums, (exponent, 0), tops)
        cuda.atomic.add(sums, (exponent, 2), squares)
    if firsts > 0:
        cuda.atomic.add(sums, (exponent, 1), firsts)
        cuda.atomic.add(sums, (exponent, 3), products)
        cuda.atomic.add(sums, (exponent, 4), uppers)
        cuda.atomic.add(sums, (exponent, 5), lowers)


def _add_magnitudes(threads: int, bits_of: Any) -> Any:
    share = _WINDOW // threads
    """Buckets of a thread at the end, all of one exponent."""

    @cuda.jit
    def add(
        a: Any,
        b: Any,
        rows: Any,
        counts: Any,
        moments: Any,
        sums: Any,
        ends: Any,
        totals: Any,
        tolerance: int,
    ) -> None:
        """Add the magnitudes of a - b.

        rows: int16 (BUCKETS,), the row of `counts` that a bucket has, or -1. counts: int32 (K,
        65536), entries by bucket and lower 16 bits, those of 0 left out. moments: int64 (4,
        BUCKETS) of entries, low, low^2 >> 16 and low^2 % 2^16. sums: int64 (EXPONENTS, PARTS).
        ends: int32 (largest bits, smallest bits). totals: int64 (2,), how many entries are zero,
        and how many have bits above `tolerance`.
        """
        table = cuda.shared.array((4, _WINDOW), uint32)
        seen = cuda.shared.array(5, int32)
        cell = cuda.local.array(1, float32)
        word = cell.view(np.int32)
        thread = cuda.threadIdx.x
        first = int64(cuda.blockIdx.x) * TAKEN
        last = min(first + TAKEN, int64(a.size))
        for slot in range(thread, _WINDOW, threads):
            table[0, slot] = table[1, slot] = table[2, slot] = table[3, slot] = uint32(0)
        if thread == 0:
            seen[0], seen[1], seen[2], seen[3], seen[4] = 0, 0, 0x7FFFFFFF, 0, 0
        cuda.syncthreads()

        glance = first + int64(thread) * (TAKEN // threads)
        if glance < last:
            cuda.atomic.max(seen, 0, bits_of(a, b, glance, cell, word) >> int32(23))
        cuda.syncthreads()
        # One exponent above what was seen, as the glance may miss the largest.
        bottom = max(int32(seen[0]) + int32(2) - int32(_SPAN), int32(0)) << int32(7)

        largest, smallest, none, moved = int32(0), int32(0x7FFFFFFF), int32(0), int32(0)
        for i in range(first + thread, last, threads):
            bits = bits_of(a, b, i, cell, word)
            largest, smallest = max(largest, bits), min(smallest, bits)
            if bits == int32(0):
                none += int32(1)
                continue
            if bits > tolerance:
                moved += int32(1)
            low = bits & int32(0xFFFF)
            square, slot = uint32(low) * uint32(low), (bits >> int32(16)) - bottom
            if slot >= int32(0) and slot < int32(_WINDOW):
                _add_to_table(table, slot, low, square)
            else:
                _add_to_memory(bits, low, square, moments, sums)
            if low != int32(0) and rows[bits >> int32(16)] >= 0:
                cuda.atomic.add(counts, (rows[bits >> int32(16)], low), int32(1))
        cuda.atomic.max(seen, 1, largest)
        cuda.atomic.min(seen, 2, smallest)
        cuda.atomic.add(seen, 3, none)
        cuda.atomic.add(seen, 4, moved)
        cuda.syncthreads()

        if thread == 0:
            cuda.atomic.max(ends, 0, seen[1])
            cuda.atomic.min(ends, 1, seen[2])
            cuda.atomic.add(totals, 0, int64(seen[3]))
            cuda.atomic.add(totals, 1, int64(seen[4]))
        for slot in range(thread, _WINDOW, threads):
            if table[0, slot] > uint32(0):
                _add_table_to_moments(table, slot, bottom + slot, moments)
        exponent = (bottom >> int32(7)) + thread * share // _SPREAD
        _add_table_to_sums(table, thread * share, (thread + 1) * share, exponent, sums)

    return add


def _fill_product(out: Any, up: Any, down: Any, scale: Any) -> None:
    """out = scale * (up @ down); all float32: (rows, columns), (rows, r), (r, columns).

    A thread makes one column of some rows.
    """
    column = cuda.grid(1)
    if column < out.shape[1]:
        for row in range(cuda.blockIdx.y, out.shape[0], cuda.gridDim.y):
            total = float32(0)
            for k in range(up.shape[1]):
                total = cuda.fma(up[row, k], down[k, column], total)
            out[row, column] = total * scale


def exact_of(sums: np.ndarray) -> tuple[int, int]:
    """(sum of magnitudes in 2^-149, sum of squares in 2^-298) of a table of sums by exponent."""
    l1 = l2 = 0
    for exponent in np.flatnonzero(sums.any(axis=1)).tolist():
        tops, firsts, squares, products, uppers, lowers = sums[exponent].tolist()
        shift = max(exponent - 1, 0)
        l1 += ((tops << 16) + firsts) << shift
        l2 += ((squares << 32) + (products << 17) + (uppers << 16) + lowers) << (2 * shift)
    return l1, l2


def moments_of(table: np.ndarray) -> np.ndarray:
    """The moments of `raylab.reduce.histogram`, int64 (4, BUCKETS), of a table of kernels."""
    count, first, upper, lower = table
    second = ((upper & 0xFFFF) << 16) + lower
    return np.stack([count, first, (upper >> 16) + (second >> 32), second & 0xFFFFFFFF])


assert BUCKETS == EXPONENTS * _SPREAD
