"""The magnitudes that threads counted in some buckets, put together.

Invariant: counts are integers, so that threads leave no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from raylab.reduce.histogram import Candidates, add_candidates
from raylab.reduce.histogram_backend import Counts
from raylab.reduce.measured import Buckets

Found = dict[str, Candidates]


def covers(kept: Sequence[Mapping[str, Counts]], pair: str, wanted: Sequence[int]) -> bool:
    """Whether every thread has counted the buckets `wanted` of a comparison."""
    if not wanted:
        return True
    return bool(kept) and all(set(wanted) <= set(own[pair].buckets) for own in kept)


def gather(found: Found, kept: Sequence[Mapping[str, Counts]], wanted: Buckets) -> None:
    """Add the counts of all threads, in any order."""
    for pair, buckets in wanted.items():
        total: dict[int, np.ndarray] = {}
        for tallies in kept if buckets else ():
            add_candidates(total, tallies[pair].candidates(buckets))
        for bucket, counts in total.items():
            low = np.flatnonzero(counts)
            found[pair][bucket] = (low, counts[low])
