"""The histogram of a comparison on a CPU: loops that numba compiles, one pass over a tile.

Model: a `CompiledTally` belongs to one thread. It takes tiles of at most 2^20 entries, adds them
to a table of packed sums by bucket (`raylab.reduce.histogram` explains the buckets and why their
sums are exact), and flushes the table into int64 moments. In the buckets that a sample foresaw for
a threshold, the same pass counts magnitudes.

Why numba: plain torch operations write every intermediate to memory and scatter three times per
entry. Here an entry is decoded, subtracted, and added in blocks that stay in the first-level cache.
numba compiles for the CPU at hand, releases Python's lock, and keeps the compiled code on disk.
The tests hold it against the same in plain torch.

    packed[bucket, 0] = count * 2^40 + sum of low       (2^20 entries: sums below 2^36)
    packed[bucket, 1] = sum of low^2                    (below 2^52)

Two copies of the table take turns, because ties hit one bucket again and again, and an addition
has to wait for the one before it at the same address.
Invariant: every sum is an exact integer, so tiles, threads and copies leave no trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.reduce.bucket_counts import BucketCounts, count_block
from raylab.reduce.entries import Entries, as_array, widened
from raylab.reduce.histogram import (
    BUCKETS,
    NONE,
    TILE,
    Candidates,
    Extremes,
    Magnitudes,
    no_moments,
)
from raylab.reduce.intrinsics import on_stack
from raylab.reduce.lora_product import COLUMNS, OPERANDS, Terms, fill_block, operands_of_two

Words = np.ndarray

_BLOCK = 4096
_HALVES = types.Array(types.uint16, 1, "C", readonly=True)
_BITS = types.Array(types.int32, 1, "C", readonly=True)
_PACKED = types.int64[:, :, ::1]
_TABLES = (
    _PACKED, types.uint32[:, ::1], types.int32[::1], types.int16[::1], types.int32[:, ::1],
    types.int64[::1], types.int32,
)  # fmt: skip
_COPIES = 2
# Unsigned, because numba looks for negative indices otherwise, which took 4 ns an entry.
_COUNT = np.uint64(1 << 40)
_LOW = np.uint64((1 << 16) - 1)
_SIXTEEN = np.uint64(16)
_TURNS = np.uint64(_COPIES - 1)


@njit()
def _subtract_bf16(a: Words, b: Words, start: int, size: int, bits: Words) -> None:
    """bits[i] = bits of |float32(a) - float32(b)| for bf16 `a`, `b` given as uint16."""
    values = bits.view(np.float32)
    left = on_stack(_BLOCK, np.uint32)
    right = on_stack(_BLOCK, np.uint32)
    for i in range(size):
        left[i] = np.uint32(a[start + i]) << np.uint32(16)
        right[i] = np.uint32(b[start + i]) << np.uint32(16)
    x = left.view(np.float32)
    y = right.view(np.float32)
    for i in range(size):
        values[i] = x[i] - y[i]
    for i in range(size):
        bits[i] &= 0x7FFFFFFF


@njit()
def _add_block(
    bits: Words,
    size: int,
    packed: Words,
    runs: Words,
    usuals: Words,
    slots: Words,
    counts: Words,
    seen: Words,
    tolerance: int,
) -> None:
    """Add one block of magnitude bits; `seen` is (largest bits, smallest, how many not zero, how
    many above the bits `tolerance`)."""
    largest = np.int32(0)
    smallest = np.int32(NONE)
    nonzero, moved = np.int32(0), np.int32(0)
    for i in range(size):
        largest = max(largest, bits[i])
        smallest = min(smallest, bits[i])
        # Narrowed at every step: numba widens a sum to int64, which halves the entries in a vector.
        nonzero = np.int32(nonzero + (bits[i] != 0))
        moved = np.int32(moved + (bits[i] > tolerance))
    seen[0] = max(seen[0], np.int64(largest))
    seen[1] = min(seen[1], np.int64(smallest))
    seen[2] += nonzero
    seen[3] += moved
    for i in range(size):
        magnitude = np.uint64(bits[i])
        bucket = magnitude >> _SIXTEEN
        low = magnitude & _LOW
        turn = np.uint64(i) & _TURNS
        packed[turn, bucket, 0] += np.int64(_COUNT + low)
        packed[turn, bucket, 1] += np.int64(low * low)
    count_block(bits, size, runs, usuals, slots, counts)


@njit(types.void(_HALVES, _HALVES, *_TABLES))
def _tally_bf16(
    a: Words,
    b: Words,
    packed: Words,
    runs: Words,
    usuals: Words,
    slots: Words,
    counts: Words,
    seen: Words,
    tolerance: int,
) -> None:
    bits = on_stack(_BLOCK, np.int32)
    for start in range(0, a.size, _BLOCK):
        size = min(_BLOCK, a.size - start)
        _subtract_bf16(a, b, start, size, bits)
        _add_block(bits, size, packed, runs, usuals, slots, counts, seen, tolerance)


@njit(types.void(_BITS, *_TABLES))
def _tally_bits(
    values: Words,
    packed: Words,
    runs: Words,
    usuals: Words,
    slots: Words,
    counts: Words,
    seen: Words,
    tolerance: int,
) -> None:
    bits = on_stack(_BLOCK, np.int32)
    for start in range(0, values.size, _BLOCK):
        size = min(_BLOCK, values.size - start)
        for i in range(size):
            bits[i] = values[start + i] & 0x7FFFFFFF
        _add_block(bits, size, packed, runs, usuals, slots, counts, seen, tolerance)


@njit(types.void(*OPERANDS, *OPERANDS, *_TABLES))
def _tally_products(
    up_a: Words,
    down_a: Words,
    ends_a: Words,
    scales_a: Words,
    up_b: Words,
    down_b: Words,
    ends_b: Words,
    scales_b: Words,
    packed: Words,
    runs: Words,
    usuals: Words,
    slots: Words,
    counts: Words,
    seen: Words,
    tolerance: int,
) -> None:
    bits = on_stack(_BLOCK, np.int32)
    a, b = on_stack(_BLOCK, np.float32), on_stack(_BLOCK, np.float32)
    more = on_stack(_BLOCK, np.float32)
    height, width = up_a.shape[0], down_a.shape[1]
    deep = _BLOCK // COLUMNS
    for first in range(0, width, COLUMNS):
        across = min(width, first + COLUMNS) - first
        for top in range(0, height, deep):
            low = min(height, top + deep)
            size = (low - top) * across
            rest = more[:size]
            fill_block(a[:size], rest, up_a[top:low], down_a, ends_a, scales_a, first)
            fill_block(b[:size], rest, up_b[top:low], down_b, ends_b, scales_b, first)
            values = bits.view(np.float32)
            for i in range(size):
                values[i] = abs(a[i] - b[i])
            _add_block(bits, size, packed, runs, usuals, slots, counts, seen, tolerance)


@njit(types.void(_PACKED, types.int64, types.int64[:, ::1]))
def _flush(packed: Words, last: int, moments: Words) -> None:
    """Move the buckets up to `last` out of `packed` and into `moments`."""
    for copy in range(_COPIES):
        for bucket in range(last + 1):
            first = packed[copy, bucket, 0]
            if first != 0:
                second = packed[copy, bucket, 1]
                moments[0, bucket] += first >> 40
                moments[1, bucket] += first & ((1 << 40) - 1)
                moments[2, bucket] += second >> 32
                moments[3, bucket] += second & 0xFFFFFFFF
                packed[copy, bucket, 0] = 0
                packed[copy, bucket, 1] = 0


class Table:
    """One thread's packed sums, which its tallies take turns to fill and to flush."""

    def __init__(self) -> None:
        """An empty table."""
        self.packed = np.zeros((_COPIES, BUCKETS, 2), dtype=np.int64)
        self.seen = np.array([0, NONE, 0, 0], dtype=np.int64)


class CompiledTally:
    """One thread's histogram of one comparison. Not to be shared."""

    def __init__(
        self, buckets: Sequence[int], table: Table | None = None, tolerance: int = 0
    ) -> None:
        """Nothing is taken in yet; entries whose magnitude bits are above `tolerance` moved."""
        self.buckets = tuple(buckets)
        self._tolerance = np.int32(tolerance)
        self._counts, self._table = BucketCounts(buckets), table or Table()

    def add(self, values: Entries) -> None:
        """Take in a tile of float32 `values`."""
        rows = as_array(values).reshape(-1)
        self._take(rows.size, _tally_bits, rows.view(np.int32))

    def add_difference(self, a: Entries, b: Entries, heights: Sequence[int] = ()) -> None:
        """Take in float32(a) - float32(b), tiles of one shape in any float dtypes."""
        left, right = (as_array(x).reshape(-1) for x in (a, b))
        if left.dtype == right.dtype == np.uint16:
            self._take(left.size, _tally_bf16, left, right)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                self.add(widened(left) - widened(right))

    def add_products(self, a: Terms, b: Terms, start: int, stop: int) -> None:
        """Take in rows [start, stop) of the difference of two low-rank deltas."""
        size, given = operands_of_two(a, b, start, stop)
        self._take(size, _tally_products, *given)

    def _take(self, size: int, kernel: Any, *operands: Any) -> None:
        table, counts = self._table, self._counts
        assert size <= TILE, "a tile is larger than the packed sums allow"
        assert table.seen[1] == NONE, "the last tile was not flushed"
        counted = (counts.runs, counts.usuals, counts.slots, counts.counts)
        kernel(*operands, table.packed, *counted, table.seen, self._tolerance)
        counts.learn(table.packed[:, list(self.buckets), 0].sum(axis=0) >> 40)

    def flush(self, into: Magnitudes) -> Extremes:
        """Add the sums since the last call to `into`, all but its norms, which follow from its
        moments."""
        found = Extremes(*self._table.seen.tolist())
        if into.moments is None:
            into.moments = no_moments()
        _flush(self._table.packed, found.largest >> 16, into.moments)
        into.extremes += found
        self._table.seen[:] = (0, NONE, 0, 0)
        return found

    def candidates(self, buckets: Sequence[int]) -> Candidates:
        """All magnitudes that were counted in `buckets`."""
        return self._counts.candidates(buckets)
