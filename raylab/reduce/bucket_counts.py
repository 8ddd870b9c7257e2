"""How many entries have each magnitude, in the buckets of a histogram that matter for a threshold.

Model: `BucketCounts` belongs to one thread and one comparison; `count_block` adds a block of
magnitude bits to it. Differences of bf16 models have few magnitudes: the one that most entries of a
bucket have, its usual magnitude, is not counted one by one, but is what the bucket holds more than
its counts. Where no magnitude is so frequent (float32), entries are compared with the bounds of the
buckets, 64 at a time, and those inside are counted.
Invariant: counts are exact integers, whichever way they were taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raylab.compiled import njit
from raylab.reduce.histogram import BUCKETS, LOW_BITS, Candidates, intervals_of
from raylab.reduce.intrinsics import lowest_bit, within

UNCOUNTED = -1
"""The usual magnitude of a bucket whose magnitudes are not counted."""
_UNKNOWN, _NONE = -2, -3
"""That of a bucket in which no entry was seen yet, and of one in which no magnitude is usual."""
_MAGNITUDE, _ALL = np.uint32(0x7FFFFFFF), np.uint64(0xFFFFFFFFFFFFFFFF)
_SIXTEEN, _LOW, _WORD = np.uint64(LOW_BITS), np.uint64((1 << LOW_BITS) - 1), 64

Array = np.ndarray


class BucketCounts:
    """How many entries have each magnitude, in the buckets that were foreseen to matter.

    counts: int32 (buckets, 65536); entry [s, low] belongs to bits buckets[s] << 16 | low.
    usuals: int32 (BUCKETS,), the usual magnitude bits of each bucket, which are not counted.
    runs: uint32 (runs, 2), the first bits of each run of neighbouring buckets, and how many more
    bits it has; empty where a bucket has a usual magnitude.
    """

    def __init__(self, buckets: Sequence[int]) -> None:
        """Nothing is counted yet in `buckets`."""
        self.buckets = tuple(buckets)
        self.counts = np.zeros((len(self.buckets), 1 << LOW_BITS), dtype=np.int32)
        self.slots = np.full(BUCKETS, -1, dtype=np.int16)
        self.slots[list(self.buckets)] = np.arange(len(self.buckets))
        self.usuals = np.full(BUCKETS, UNCOUNTED, dtype=np.int32)
        self.usuals[list(self.buckets)] = _UNKNOWN
        found = [
            (each.first << LOW_BITS, ((each.last - each.first + 1) << LOW_BITS) - 1)
            for each in intervals_of(self.buckets)
        ]
        self.runs = np.array(found, dtype=np.uint32).reshape(-1, 2)
        self._entries = np.zeros(len(self.buckets), dtype=np.int64)

    def learn(self, entries: Array) -> None:
        """Note how many entries a tile has in each bucket; the first tile that has any shows
        which magnitude is usual there, if more than half of them have one."""
        self._entries += entries
        for slot in np.flatnonzero(entries):
            bucket = self.buckets[slot]
            if self.usuals[bucket] == _UNKNOWN:
                low = int(self.counts[slot].argmax())
                is_usual = 2 * int(self.counts[slot, low]) > self._entries[slot]
                self.usuals[bucket] = (bucket << LOW_BITS) + low if is_usual else _NONE
                self.runs = self.runs[:0] if is_usual else self.runs

    def candidates(self, buckets: Sequence[int]) -> Candidates:
        """The magnitudes counted in `buckets`, all of which were foreseen."""
        found: Candidates = {}
        for bucket in buckets:
            slot = self.slots[bucket]
            counts = self.counts[slot].astype(np.int64)
            if self.usuals[bucket] >= 0:
                counts[self.usuals[bucket] & 0xFFFF] += self._entries[slot] - counts.sum()
            low = np.flatnonzero(counts)
            found[bucket] = (low, counts[low])
        return found


@njit()
def count_block(
    bits: Array, size: int, runs: Array, usuals: Array, slots: Array, counts: Array
) -> None:
    """Add the first `size` magnitude bits of a block, int32 of a multiple of 64, to `counts`."""
    if counts.shape[0] == 0:
        return
    if runs.shape[0] == 0:
        _count_unusual(bits, size, usuals, slots, counts)
        return
    for start in range(0, size, _WORD):
        found = np.uint64(0)
        for k in range(runs.shape[0]):
            found |= within(bits, np.uint64(start), _MAGNITUDE, runs[k, 0], runs[k, 1])
        if size - start < _WORD:
            found &= _ALL >> np.uint64(_WORD - (size - start))
        while found != 0:
            magnitude = np.uint64(bits[np.uint64(start) + lowest_bit(found)])
            found &= found - np.uint64(1)
            counts[np.uint64(slots[magnitude >> _SIXTEEN]), magnitude & _LOW] += 1


@njit()
def _count_unusual(bits: Array, size: int, usuals: Array, slots: Array, counts: Array) -> None:
    for i in range(size):
        magnitude = np.uint64(bits[i])
        bucket = magnitude >> _SIXTEEN
        usual = usuals[bucket]
        # One branch that is seldom taken: which bucket comes next cannot be predicted.
        if (usual != UNCOUNTED) & (usual != bits[i]):
            counts[np.uint64(slots[bucket]), magnitude & _LOW] += 1
