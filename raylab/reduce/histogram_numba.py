"""The kernel of the reduction, compiled: one pass over a tile, whatever is asked of it.

Model: a `Tally` belongs to one thread. It takes tiles of at most 2^20 entries, adds them to a
table of packed sums by bucket (see `raylab.reduce.histogram` for the buckets and why their sums
are exact), and flushes the table into int64 moments. Where buckets were foreseen to hold a
threshold, it counts their magnitudes in the same pass.

Why numba: plain torch operations write every intermediate to memory and scatter three times per
entry; here an entry is decoded, subtracted, and added in blocks that stay in the first-level
cache. numba compiles for the CPU that it runs on, releases Python's lock, and keeps what it
compiled on disk. `raylab.reduce.histogram.bucket_moments` is the reference in plain torch, which
the tests hold against this one, and which runs on a GPU.

    packed[bucket, 0] = count * 2^40 + sum of low       (2^20 entries: sums below 2^36)
    packed[bucket, 1] = sum of low^2                    (below 2^52)

Two copies of the table take turns, because ties hit one bucket again and again, and an addition
has to wait for the one before it at the same address.
Invariant: every sum is an exact integer, so tiles, threads and copies leave no trace.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit

from raylab.reduce.histogram import BUCKETS, NONE, TILE, Extremes, Moments
from raylab.reduce.threshold_sampling import UNFORESEEN, Foreseen

Words = np.ndarray

_BLOCK = 4096
_COPIES = 2
# Unsigned, because numba looks for negative indices otherwise, which took 4 ns an entry.
_COUNT = np.uint64(1 << 40)
_LOW = np.uint64((1 << 16) - 1)
_SIXTEEN = np.uint64(16)
_TURNS = np.uint64(_COPIES - 1)


@njit(cache=True, nogil=True, boundscheck=False)
def _subtract_bf16(a: Words, b: Words, start: int, size: int, bits: Words) -> None:
    """bits[i] = bits of |float32(a) - float32(b)| for bf16 `a`, `b` given as uint16."""
    values = bits.view(np.float32)
    left = np.empty(_BLOCK, np.uint32)
    right = np.empty(_BLOCK, np.uint32)
    for i in range(size):
        left[i] = np.uint32(a[start + i]) << np.uint32(16)
        right[i] = np.uint32(b[start + i]) << np.uint32(16)
    x = left.view(np.float32)
    y = right.view(np.float32)
    for i in range(size):
        values[i] = x[i] - y[i]
    for i in range(size):
        bits[i] &= 0x7FFFFFFF


@njit(cache=True, nogil=True, boundscheck=False)
def _add_block(
    bits: Words, size: int, packed: Words, usuals: Words, slots: Words, counts: Words, seen: Words
) -> None:
    """Add one block of magnitude bits; `seen` is (largest bits, smallest, how many not zero)."""
    largest = np.int32(0)
    smallest = np.int32(NONE)
    nonzero = 0
    for i in range(size):
        largest = max(largest, bits[i])
        smallest = min(smallest, bits[i])
        nonzero += bits[i] != 0
    seen[0] = max(seen[0], np.int64(largest))
    seen[1] = min(seen[1], np.int64(smallest))
    seen[2] += nonzero
    for i in range(size):
        magnitude = np.uint64(bits[i])
        bucket = magnitude >> _SIXTEEN
        low = magnitude & _LOW
        turn = np.uint64(i) & _TURNS
        packed[turn, bucket, 0] += np.int64(_COUNT + low)
        packed[turn, bucket, 1] += np.int64(low * low)
    if counts.shape[0] > 0:
        for i in range(size):
            magnitude = np.uint64(bits[i])
            bucket = magnitude >> _SIXTEEN
            usual = usuals[bucket]
            # One branch that is seldom taken: which bucket comes next cannot be predicted.
            if (usual != UNFORESEEN) & (usual != bits[i]):
                counts[np.uint64(slots[bucket]), magnitude & _LOW] += 1


@njit(cache=True, nogil=True, boundscheck=False)
def _tally_bf16(
    a: Words, b: Words, packed: Words, usuals: Words, slots: Words, counts: Words, seen: Words
) -> None:
    bits = np.empty(_BLOCK, np.int32)
    for start in range(0, a.size, _BLOCK):
        size = min(_BLOCK, a.size - start)
        _subtract_bf16(a, b, start, size, bits)
        _add_block(bits, size, packed, usuals, slots, counts, seen)


@njit(cache=True, nogil=True, boundscheck=False)
def _tally_bits(
    values: Words, packed: Words, usuals: Words, slots: Words, counts: Words, seen: Words
) -> None:
    bits = np.empty(_BLOCK, np.int32)
    for start in range(0, values.size, _BLOCK):
        size = min(_BLOCK, values.size - start)
        for i in range(size):
            bits[i] = values[start + i] & 0x7FFFFFFF
        _add_block(bits, size, packed, usuals, slots, counts, seen)


@njit(cache=True, nogil=True, boundscheck=False)
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


@njit(cache=True, nogil=True, boundscheck=False, fastmath={"reassoc", "contract"})
def _squares_bf16(values: Words) -> float:
    widened = np.empty(_BLOCK, np.uint32)
    total = 0.0
    for start in range(0, values.size, _BLOCK):
        size = min(_BLOCK, values.size - start)
        for i in range(size):
            widened[i] = np.uint32(values[start + i]) << np.uint32(16)
        x = widened.view(np.float32)
        for i in range(size):
            total += np.float64(x[i]) * np.float64(x[i])
    return total


@njit(cache=True, nogil=True, boundscheck=False, fastmath={"reassoc", "contract"})
def _squares(values: Words) -> float:
    total = 0.0
    for i in range(values.size):
        total += np.float64(values[i]) * np.float64(values[i])
    return total


def squares_of(values: torch.Tensor) -> float:
    """The sum of squares of a tile, in float64, in an order that its size and the CPU decide."""
    if values.dtype == torch.bfloat16:
        return float(_squares_bf16(_words(values)))
    return float(_squares(values.to(torch.float32).reshape(-1).numpy()))


def _words(values: torch.Tensor) -> np.ndarray:
    return values.reshape(-1).view(torch.int16).numpy().view(np.uint16)


class CompiledTally:
    """One thread's table. Not to be shared."""

    def __init__(self) -> None:
        """An empty table."""
        self._packed = np.zeros((_COPIES, BUCKETS, 2), dtype=np.int64)
        self._seen = np.array([0, NONE, 0], dtype=np.int64)

    def add(self, values: torch.Tensor, foreseen: Foreseen) -> None:
        """Take in a tile of float32 `values`."""
        self._take(_tally_bits, values.reshape(-1).view(torch.int32).numpy(), foreseen=foreseen)

    def add_difference(self, a: torch.Tensor, b: torch.Tensor, foreseen: Foreseen) -> None:
        """Take in float32(a) - float32(b), tiles of one shape in any float dtypes."""
        if a.dtype == b.dtype == torch.bfloat16:
            self._take(_tally_bf16, _words(a), _words(b), foreseen=foreseen)
        else:
            self.add(a.to(torch.float32) - b.to(torch.float32), foreseen)

    def _take(self, kernel: Any, *words: np.ndarray, foreseen: Foreseen) -> None:
        assert words[0].size <= TILE, "a tile is larger than the packed sums allow"
        assert self._seen[1] == NONE, "the last tile was not flushed"
        counted = (foreseen.usuals, foreseen.slots, foreseen.counts)
        kernel(*words, self._packed, *counted, self._seen)
        entries = self._packed[:, list(foreseen.buckets), 0].sum(axis=0) >> 40
        foreseen.learn(entries)

    def flush(self, moments: Moments) -> Extremes:
        """Move what was taken in into `moments`."""
        found = Extremes(*self._seen.tolist())
        _flush(self._packed, found.largest >> 16, moments)
        self._seen[:] = (0, NONE, 0)
        return found
