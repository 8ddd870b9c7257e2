"""The compiled loops of a scan: norms and interval sums in vector registers.

Model: a block of rows is decoded, subtracted and summed in one loop that the compiler turns into
vector instructions; further loops over the same block, which is in the first-level cache by
then, sum what lies above each run of buckets and mark what lies in it, and only what is marked
is counted one by one.
Why numba: it compiles for the CPU that it runs on, releases Python's lock, and keeps what it
compiled on disk; torch would write every intermediate to memory. Sums may be reassociated,
which vectors need: their order is decided by the CPU's vectors and the length of the piece.
Invariant: counts are exact; the same piece gives the same bits on one kind of CPU.

numba widens a sum of two int32 to int64, which halves the entries in a vector: counters are
narrowed again at every step (a third of the time of `_classify`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types

from raylab.reduce.histogram import NONE
from raylab.reduce.intrinsics import as_bits, as_float, lowest_bit
from raylab.reduce.lora_product import COLUMNS, FACTOR, fill_block

_BLOCK = 2048
_WORD = 8
_REASSOCIATED = {"reassoc", "contract", "nsz"}
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "boundscheck": False}

TOGETHER = 4
"""Runs whose sums are taken in one loop, which decodes an entry once for all of them."""

Array = np.ndarray
# Compiled (or loaded) at import, for one layout: a mapped file cannot be written to.
_U16 = types.Array(types.uint16, 1, "C", readonly=True)
_F32_READ = types.Array(types.float32, 1, "C", readonly=True)
_I16, _I32, _I64, _F32, _F64 = types.int16, types.int32, types.int64, types.float32, types.float64


@njit(**_OPTIONS, fastmath=_REASSOCIATED)
def _head_bf16(a: Array, b: Array, bits: Array, ends: Array, sums: Array) -> None:
    """Magnitudes of one block into `bits`; its ends, and sums[0] += (squares of b, l1, l2)."""
    values = bits.view(np.float32)
    largest, smallest, nonzero = np.int32(0), np.int32(NONE), np.int32(0)
    first = second = weights = 0.0
    for i in range(a.size):
        x: Any = as_float(np.uint32(a[i]) << np.uint32(16))
        y = as_float(np.uint32(b[i]) << np.uint32(16))
        magnitude = abs(x - y)
        values[i] = magnitude
        word: Any = as_bits(magnitude)
        largest, smallest = max(largest, word), min(smallest, word)
        nonzero = np.int32(nonzero + (word != 0))
        wide, weight = np.float64(magnitude), np.float64(y)
        first += wide
        second += wide * wide
        weights += weight * weight
    _add_head(ends, sums, largest, smallest, nonzero, weights, first, second)


@njit(**_OPTIONS, fastmath=_REASSOCIATED)
def _head_float(a: Array, b: Array, bits: Array, ends: Array, sums: Array) -> None:
    """The same of float32."""
    values = bits.view(np.float32)
    largest, smallest, nonzero = np.int32(0), np.int32(NONE), np.int32(0)
    first = second = weights = 0.0
    for i in range(a.size):
        magnitude = abs(a[i] - b[i])
        values[i] = magnitude
        word: Any = as_bits(magnitude)
        largest, smallest = max(largest, word), min(smallest, word)
        nonzero = np.int32(nonzero + (word != 0))
        wide, weight = np.float64(magnitude), np.float64(b[i])
        first += wide
        second += wide * wide
        weights += weight * weight
    _add_head(ends, sums, largest, smallest, nonzero, weights, first, second)


@njit(**_OPTIONS)
def _add_head(
    ends: Array,
    sums: Array,
    largest: int,
    smallest: int,
    nonzero: int,
    weights: float,
    first: float,
    second: float,
) -> None:
    ends[0], ends[1] = max(ends[0], largest), min(ends[1], smallest)
    ends[2] += nonzero
    sums[0, 0] += weights
    sums[0, 1] += first
    sums[0, 2] += second


@njit(**_OPTIONS, fastmath=_REASSOCIATED)
def _sums_above(bits: Array, limits: Array, sums: Array) -> None:
    """sums[k, 1:] += (sum, sum of squares) of the entries above limits[k], of TOGETHER limits."""
    values = bits.view(np.float32)
    limit_0, limit_1, limit_2, limit_3 = limits[0], limits[1], limits[2], limits[3]
    l1_0 = l1_1 = l1_2 = l1_3 = 0.0
    l2_0 = l2_1 = l2_2 = l2_3 = 0.0
    for i in range(bits.size):
        value = values[i]
        wide = np.float64(value)
        square = wide * wide
        # In this order: side by side, two of one condition become a branch, which has no vectors.
        l1_0 += wide if value > limit_0 else 0.0
        l1_1 += wide if value > limit_1 else 0.0
        l1_2 += wide if value > limit_2 else 0.0
        l1_3 += wide if value > limit_3 else 0.0
        l2_0 += square if value > limit_0 else 0.0
        l2_1 += square if value > limit_1 else 0.0
        l2_2 += square if value > limit_2 else 0.0
        l2_3 += square if value > limit_3 else 0.0
    sums[0, 1] += l1_0
    sums[0, 2] += l2_0
    sums[1, 1] += l1_1
    sums[1, 2] += l2_1
    sums[2, 1] += l1_2
    sums[2, 2] += l2_2
    sums[3, 1] += l1_3
    sums[3, 2] += l2_3


@njit(**_OPTIONS)
def _classify(bits: Array, low: int, span: int, usual: int, marks: Array) -> Any:
    """Mark what lies in [low, low + span] and is not `usual`; gives (how many lie above that,
    how many are usual)."""
    top = np.int32(low + np.int32(span))
    above, same = np.int32(0), np.int32(0)
    for i in range(bits.size):
        word = bits[i]
        is_usual = word == usual
        above = np.int32(above + (word > top))
        same = np.int32(same + is_usual)
        marks[i] |= np.uint8((np.uint32(np.int32(word - low)) <= span) & (not is_usual))
    return above, same


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
def _runs(
    bits: Array, marks: Array, runs: Array, limits: Array, rows: Array, counts: Array, sums: Array
) -> None:
    """One block against every run."""
    if runs.shape[0] == 0:
        return
    for k in range(0, limits.size, TOGETHER):
        _sums_above(bits, limits[k : k + TOGETHER], sums[k + 1 : k + 1 + TOGETHER])
    for k in range(runs.shape[0]):
        low, span, usual = runs[k, 0], np.uint32(runs[k, 1]), runs[k, 2]
        above, same = _classify(bits, low, span, usual, marks)
        sums[k + 1, 0] += above
        runs[k, 3] += same
    _count_marked(bits, marks, rows, counts)


_OF_RUNS = (_I32[:, ::1], _F32[::1], _I16[::1], _I32[:, ::1], _I64[::1], _F64[:, ::1])


@njit(types.void(_U16, _U16, *_OF_RUNS), **_OPTIONS)
def scan_bf16(
    a: Array,
    b: Array,
    runs: Array,
    limits: Array,
    rows: Array,
    counts: Array,
    ends: Array,
    sums: Array,
) -> None:
    """Scan |a - b| of bf16 given as uint16.

    runs: int32 (K, 4) of low bits, span, usual bits or -1, and how many were usual. limits:
    float32, the top of each run, infinity up to a multiple of TOGETHER. rows: int16 (32768,), the
    row of `counts` that a bucket of a run has. counts: int32 (buckets of runs, 65536). ends:
    int64 (largest, smallest bits, non-zero entries). sums: float64 (1 + limits, 3), the first
    row (squares of b, l1, l2 squared) of all, the others (entries, l1, l2 squared) above a run.
    """
    bits, marks = np.empty(_BLOCK, np.int32), np.zeros(_BLOCK, np.uint8)
    for start in range(0, a.size, _BLOCK):
        stop = min(start + _BLOCK, a.size)
        block = bits[: stop - start]
        _head_bf16(a[start:stop], b[start:stop], block, ends, sums)
        _runs(block, marks, runs, limits, rows, counts, sums)


@njit(types.void(_F32_READ, _F32_READ, *_OF_RUNS), **_OPTIONS)
def scan_float(
    a: Array,
    b: Array,
    runs: Array,
    limits: Array,
    rows: Array,
    counts: Array,
    ends: Array,
    sums: Array,
) -> None:
    """The same of |a - b| of float32."""
    bits, marks = np.empty(_BLOCK, np.int32), np.zeros(_BLOCK, np.uint8)
    for start in range(0, a.size, _BLOCK):
        stop = min(start + _BLOCK, a.size)
        block = bits[: stop - start]
        _head_float(a[start:stop], b[start:stop], block, ends, sums)
        _runs(block, marks, runs, limits, rows, counts, sums)


@njit(types.void(FACTOR, FACTOR, _F32, FACTOR, FACTOR, _F32, *_OF_RUNS), **_OPTIONS)
def scan_products(
    up_a: Array,
    down_a: Array,
    scale_a: float,
    up_b: Array,
    down_b: Array,
    scale_b: float,
    runs: Array,
    limits: Array,
    rows: Array,
    counts: Array,
    ends: Array,
    sums: Array,
) -> None:
    """The same of two low-rank deltas, scale * (up @ down) each, which are never held whole."""
    bits, marks = np.empty(_BLOCK, np.int32), np.zeros(_BLOCK, np.uint8)
    a, b = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    height, width = up_a.shape[0], down_a.shape[1]
    deep = _BLOCK // COLUMNS
    for first in range(0, width, COLUMNS):
        wide = min(width, first + COLUMNS) - first
        for top in range(0, height, deep):
            low = min(height, top + deep)
            size = (low - top) * wide
            fill_block(a[:size], up_a[top:low], down_a, scale_a, first)
            fill_block(b[:size], up_b[top:low], down_b, scale_b, first)
            _head_float(a[:size], b[:size], bits[:size], ends, sums)
            _runs(bits[:size], marks, runs, limits, rows, counts, sums)
