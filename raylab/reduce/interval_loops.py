"""Compiled loops that sum the entries above intervals of magnitudes, and count those inside.

Model: a block of 2048 entries is decoded and subtracted in one loop that the compiler turns into
vector instructions. Further loops over the same block, which is in the first-level cache by then,
sum it (see `raylab.reduce.block_sums`) and mark the entries inside an interval; only marked entries
are counted one by one.
Invariant: sums and counts are exact integers.

Why numba: it compiles for the CPU that it runs on, releases Python's lock, and keeps what it
compiled on disk; torch would write every intermediate to memory. numba widens a sum of two int32
to int64, which halves the entries in a vector: counters are narrowed again at every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.reduce.block_sums import BLOCK, add_sums
from raylab.reduce.histogram import NONE
from raylab.reduce.intrinsics import as_bits, as_float, lowest_bit, on_stack, prefetch
from raylab.reduce.lora_product import COLUMNS, OPERANDS, fill_block
from raylab.reduce.squares import SQUARES_BLOCK, add_squares_bf16

_WORD = 8
_LINE = 32
"""Entries of bf16 in a line of the cache."""

Array = np.ndarray
# Compiled (or loaded) at import, for one layout: a mapped file cannot be written to.
_U16 = types.Array(types.uint16, 1, "C", readonly=True)
_F32_READ = types.Array(types.float32, 1, "C", readonly=True)
_I16, _I32, _I64, _F32 = types.int16, types.int32, types.int64, types.float32


@njit()
def _load_ahead(a: Array, b: Array, start: int) -> None:
    """Have the CPU load the next block while it works on this one: its own guesses end with each
    page of memory."""
    for i in range(start, min(start + BLOCK, a.size), _LINE):
        prefetch(a, i)
        prefetch(b, i)


@njit()
def _above(bits: Array, largest: int, tolerance: int) -> Any:
    """How many entries of a block are above `tolerance`; `largest` is their largest."""
    moved = np.int32(0)
    if largest > tolerance:
        # Apart from the loop before: the sums of both together do not fit in the vector registers.
        for i in range(bits.size):
            moved = np.int32(moved + (bits[i] > tolerance))
    return moved


@njit()
def _subtract_bf16(a: Array, b: Array, bits: Array, ends: Array, tolerance: int) -> Any:
    """bits[i] = the bits of |a[i] - b[i]|; the block's largest and smallest bits."""
    largest, smallest, nonzero = np.int32(0), np.int32(NONE), np.int32(0)
    for i in range(a.size):
        x: Any = as_float(np.uint32(a[i]) << np.uint32(16))
        y = as_float(np.uint32(b[i]) << np.uint32(16))
        word: Any = as_bits(abs(x - y))
        bits[i] = word
        largest, smallest = max(largest, word), min(smallest, word)
        nonzero = np.int32(nonzero + (word != 0))
    ends[0], ends[1] = max(ends[0], largest), min(ends[1], smallest)
    ends[2] += nonzero
    ends[3] += _above(bits, largest, tolerance)
    return largest


@njit()
def _subtract_float(a: Array, b: Array, bits: Array, ends: Array, tolerance: int) -> Any:
    """The same of float32."""
    largest, smallest, nonzero = np.int32(0), np.int32(NONE), np.int32(0)
    for i in range(a.size):
        word: Any = as_bits(abs(a[i] - b[i]))
        bits[i] = word
        largest, smallest = max(largest, word), min(smallest, word)
        nonzero = np.int32(nonzero + (word != 0))
    ends[0], ends[1] = max(ends[0], largest), min(ends[1], smallest)
    ends[2] += nonzero
    ends[3] += _above(bits, largest, tolerance)
    return largest


@njit()
def _classify(bits: Array, low: int, span: int, usual: int, marks: Array) -> Any:
    """Mark the entries in [low, low + span] that are not `usual`; (how many lie above, how many
    are usual)."""
    top = np.int32(low + np.int32(span))
    above, same = np.int32(0), np.int32(0)
    for i in range(bits.size):
        word = bits[i]
        is_usual = word == usual
        above = np.int32(above + (word > top))
        same = np.int32(same + is_usual)
        marks[i] |= np.uint8((np.uint32(np.int32(word - low)) <= span) & (not is_usual))
    return above, same


@njit()
def _count_marked(bits: Array, marks: Array, rows: Array, counts: Array) -> None:
    """counts[rows[bucket], low 16 bits] += 1 for every entry that is marked; the marks are
    cleared."""
    words = marks.view(np.uint64)
    for w in range(words.size):
        word = words[w]
        words[w] = np.uint64(0)
        while word != 0:
            place = lowest_bit(word)
            word &= word - np.uint64(1)
            found = np.uint64(bits[np.uint64(w * _WORD) + (place >> np.uint64(3))])
            row = np.uint64(rows[found >> np.uint64(16)])
            counts[row, found & np.uint64(65535)] += 1


@njit()
def _count(
    bits: Array, largest: int, marks: Array, intervals: Array, rows: Array, counts: Array
) -> None:
    """Count the entries of one block inside and above each interval; `largest` is their largest."""
    is_marked = False
    for k in range(intervals.shape[0]):
        low, span, usual = intervals[k, 0], np.uint32(intervals[k, 1]), intervals[k, 2]
        # Blocks of zeros, which tensors that were not trained consist of, end here.
        if largest < low:
            continue
        above, same = _classify(bits, np.int32(low), span, np.int32(usual), marks)
        intervals[k, 3] += same
        intervals[k, 4] += above
        is_marked = True
    if is_marked:
        _count_marked(bits, marks, rows, counts)


_TABLES = (_I64[:, ::1], _F32[::1], _I16[::1], _I32[:, ::1], _I64[::1], _I32, _I64[:, :, ::1])


@njit(types.float64(_U16, _U16, *_TABLES))
def add_bf16(
    a: Array,
    b: Array,
    intervals: Array,
    limits: Array,
    rows: Array,
    counts: Array,
    ends: Array,
    tolerance: int,
    sums: Array,
) -> float:
    """Add |a - b| of bf16 given as uint16; return the sum of squares of b, which is near the core.

    intervals: int64 (K, 5) of low bits, span, usual bits or -1, how many were usual, and how many
    lie above the interval. limits: float32 (K,), the largest magnitude of each interval. rows:
    int16 (32768,), the row of `counts` that a bucket of an interval has. counts: int32 (buckets of
    intervals, 65536). ends: int64 (largest, smallest bits, non-zero entries, entries whose bits are
    above `tolerance`). sums: int64 (1 + K, UNITS, 3) as `add_sums` fills them.
    """
    bits, marks = on_stack(BLOCK, np.int32), on_stack(BLOCK, np.uint8)
    memory = on_stack(BLOCK, np.int32), on_stack(BLOCK, np.int64)
    marks[:] = 0
    squares = 0.0
    for start in range(0, a.size, BLOCK):
        stop = min(start + BLOCK, a.size)
        block = bits[: stop - start]
        _load_ahead(a, b, stop)
        largest = _subtract_bf16(a[start:stop], b[start:stop], block, ends, tolerance)
        add_sums(block, largest, limits, memory, sums)
        _count(block, largest, marks, intervals, rows, counts)
        first = start // SQUARES_BLOCK * SQUARES_BLOCK
        if stop == a.size or stop - first == SQUARES_BLOCK:
            squares = add_squares_bf16(squares, b[first:stop])
    return squares


@njit(types.void(_F32_READ, _F32_READ, *_TABLES))
def add_float(
    a: Array,
    b: Array,
    intervals: Array,
    limits: Array,
    rows: Array,
    counts: Array,
    ends: Array,
    tolerance: int,
    sums: Array,
) -> None:
    """The same of |a - b| of float32."""
    bits, marks = on_stack(BLOCK, np.int32), on_stack(BLOCK, np.uint8)
    memory = on_stack(BLOCK, np.int32), on_stack(BLOCK, np.int64)
    marks[:] = 0
    for start in range(0, a.size, BLOCK):
        stop = min(start + BLOCK, a.size)
        block = bits[: stop - start]
        largest = _subtract_float(a[start:stop], b[start:stop], block, ends, tolerance)
        add_sums(block, largest, limits, memory, sums)
        _count(block, largest, marks, intervals, rows, counts)


@njit(types.void(*OPERANDS, *OPERANDS, *_TABLES))
def add_products(
    up_a: Array,
    down_a: Array,
    ends_a: Array,
    scales_a: Array,
    up_b: Array,
    down_b: Array,
    ends_b: Array,
    scales_b: Array,
    intervals: Array,
    limits: Array,
    rows: Array,
    counts: Array,
    ends: Array,
    tolerance: int,
    sums: Array,
) -> None:
    """The same of two low-rank deltas, which are never held whole."""
    bits, marks = on_stack(BLOCK, np.int32), on_stack(BLOCK, np.uint8)
    memory = on_stack(BLOCK, np.int32), on_stack(BLOCK, np.int64)
    marks[:] = 0
    a, b = on_stack(BLOCK, np.float32), on_stack(BLOCK, np.float32)
    more = on_stack(BLOCK, np.float32)
    height, width = up_a.shape[0], down_a.shape[1]
    deep = BLOCK // COLUMNS
    for first in range(0, width, COLUMNS):
        across = min(width, first + COLUMNS) - first
        for top in range(0, height, deep):
            low = min(height, top + deep)
            size = (low - top) * across
            rest = more[:size]
            fill_block(a[:size], rest, up_a[top:low], down_a, ends_a, scales_a, first)
            fill_block(b[:size], rest, up_b[top:low], down_b, ends_b, scales_b, first)
            largest = _subtract_float(a[:size], b[:size], bits[:size], ends, tolerance)
            add_sums(bits[:size], largest, limits, memory, sums)
            _count(bits[:size], largest, marks, intervals, rows, counts)
