"""The magnitudes that threads counted in some buckets, put together, and kept in few bytes.

Model: a shard's counts wait until the thresholds are known. A thread's tallies take 4 bytes for
each of the 65536 magnitudes of a bucket; `packed` adds up all threads and takes what the largest
count needs, which is one byte where a bucket holds a few million entries.
Invariant: counts are integers, so that neither threads nor packing leave a trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raylab.reduce.histogram import LOW_MASK, Candidates, add_candidates
from raylab.reduce.histogram_backend import Counts
from raylab.reduce.measured import Buckets

Found = dict[str, Candidates]


@dataclass
class PackedCounts:
    """What all threads counted of one comparison."""

    buckets: tuple[int, ...]
    found: Candidates

    def candidates(self, buckets: Sequence[int]) -> Candidates:
        """All magnitudes that were counted in `buckets`."""
        return {bucket: self.found[bucket] for bucket in buckets}


def packed(kept: Sequence[Mapping[str, Counts]]) -> list[Mapping[str, Counts]]:
    """The counts of all threads as those of one."""
    found: dict[str, Counts] = {}
    for pair, first in kept[0].items() if kept else ():
        own = [tallies[pair] for tallies in kept]
        sums = {bucket: _sum(own, bucket) for bucket in first.buckets}
        found[pair] = PackedCounts(first.buckets, sums)
    return [found]


def bytes_of(kept: Sequence[Mapping[str, Counts]]) -> int:
    """How many bytes tallies take for the counts in their buckets."""
    buckets = sum(len(counts.buckets) for tallies in kept for counts in tallies.values())
    return buckets * (LOW_MASK + 1) * np.dtype(np.int32).itemsize


def covers(kept: Sequence[Mapping[str, Counts]], pair: str, wanted: Sequence[int]) -> bool:
    """Whether every thread has counted the buckets `wanted` of a comparison."""
    if not wanted:
        return True
    return bool(kept) and all(set(wanted) <= set(own[pair].buckets) for own in kept)


def gather(found: Found, kept: Sequence[Mapping[str, Counts]], wanted: Buckets) -> None:
    """Add the counts of all threads, in any order."""
    for pair, buckets in wanted.items():
        for bucket in buckets if kept else ():
            found[pair][bucket] = _sum([tallies[pair] for tallies in kept], bucket)


def _sum(kept: Sequence[Counts], bucket: int) -> tuple[np.ndarray, np.ndarray]:
    """(the lower 16 bits of the magnitudes in a bucket, how many entries of all threads have each),
    in the smallest types."""
    total: dict[int, np.ndarray] = {bucket: np.zeros(LOW_MASK + 1, dtype=np.int64)}
    for counts in kept:
        add_candidates(total, counts.candidates((bucket,)))
    low = np.flatnonzero(total[bucket])
    entries = total[bucket][low]
    return low.astype(np.uint16), entries.astype(np.min_scalar_type(entries.max(initial=0)))
