"""The magnitudes that threads counted in some buckets, put together, and kept in few bytes.

Model: a shard's counts wait until the thresholds are known. A thread's tallies take 4 bytes for
each of the 65536 magnitudes of a bucket; `packed` adds up all threads, takes what the largest count
needs, which is one byte where a bucket holds a few million entries of adapters, and compresses it.
Invariant: counts are integers, so that neither threads nor packing leave a trace.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylab.reduce.histogram import LOW_MASK, Candidates, add_candidates
from raylab.reduce.histogram_backend import Counts
from raylab.reduce.measured import Buckets

Found = dict[str, Candidates]
_Sum = tuple[np.ndarray, np.ndarray]
_Packed = tuple[np.dtype[Any], bytes]
"""The dtype of the counts of all 65536 magnitudes of a bucket, and their bytes by zlib."""


class PackedCounts:
    """What all threads counted of one comparison."""

    def __init__(self, tallies: Sequence[Counts]) -> None:
        """Add up what each thread counted; `tallies` are not held."""
        self.buckets = tallies[0].buckets
        self._found = {bucket: _packed(_sum(tallies, bucket)) for bucket in self.buckets}

    def candidates(self, buckets: Sequence[int]) -> Candidates:
        """All magnitudes that were counted in `buckets`."""
        return {bucket: _unpacked(self._found[bucket]) for bucket in buckets}


def packed(kept: Sequence[Mapping[str, Counts]]) -> list[Mapping[str, Counts]]:
    """The counts of all threads as those of one."""
    pairs = kept[0] if kept else ()
    return [{pair: PackedCounts([tallies[pair] for tallies in kept]) for pair in pairs}]


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


def _sum(kept: Sequence[Counts], bucket: int) -> _Sum:
    """(the lower 16 bits of the magnitudes in a bucket, how many entries of all threads have each),
    in the smallest types."""
    total: dict[int, np.ndarray] = {bucket: np.zeros(LOW_MASK + 1, dtype=np.int64)}
    for counts in kept:
        add_candidates(total, counts.candidates((bucket,)))
    low = np.flatnonzero(total[bucket])
    entries = total[bucket][low]
    return low.astype(np.uint16), entries.astype(np.min_scalar_type(entries.max(initial=0)))


def _packed(found: _Sum) -> _Packed:
    low, entries = found
    counts = np.zeros(LOW_MASK + 1, dtype=entries.dtype)
    counts[low] = entries
    # Runs of zeros and the usual counts take few bits, at the speed of a copy or two.
    packing = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    return entries.dtype, packing.compress(counts.tobytes()) + packing.flush()


def _unpacked(found: _Packed) -> _Sum:
    dtype, packed = found
    counts = np.frombuffer(zlib.decompress(packed), dtype=dtype)
    low = np.flatnonzero(counts)
    return low.astype(np.uint16), counts[low]
