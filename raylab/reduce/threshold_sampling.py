"""Foresight: a look at a sample says which buckets will hold the thresholds.

Model: the first rows of every fourth tile, 1/32 of them, are tallied before everything is.
Their buckets tell, within a margin, where the num_keep-th largest entry of all will fall; the
magnitudes of these buckets are counted along in the pass, so that no second read is needed.
Differences of bf16 models tie: a few short magnitudes (of at most eight significant bits, so
that their lower 16 bits are zero, and a bucket has one) are most of all entries. Where the margin
lies inside one of them, the sample guesses the threshold itself.
Invariant: foresight saves a read and decides nothing. Where it was wrong, the tensors are read
again for what is true, and the outcome is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from raylab.reduce.histogram import BUCKETS, Candidates
from raylab.weights.row_tiles import tiles
from raylab.weights.safetensors_reader import Shape

_SHARE = 32
_EVERY = 4
# The rows of a tile are alike, so a sample of rows errs more than one of single entries.
_DEVIATIONS = 12
_WIDEST = 18
UNFORESEEN = -1
_UNKNOWN = -2


class Foreseen:
    """How many entries have each magnitude, in the buckets that were foreseen to matter.

    counts: int32 (buckets, 65536); entry [s, low] belongs to bits buckets[s] << 16 | low.
    usuals: int32 (BUCKETS,), the magnitude bits that a bucket's entries most often have, which
    are not counted one by one: they are the entries of the bucket that no count tells of. Models
    in bf16 have few magnitudes, so these are most of all entries.
    """

    def __init__(self, buckets: Sequence[int]) -> None:
        """Nothing counted yet in `buckets`."""
        self.buckets = tuple(buckets)
        self.counts = np.zeros((len(self.buckets), 1 << 16), dtype=np.int32)
        self.slots = np.full(BUCKETS, -1, dtype=np.int16)
        self.slots[list(self.buckets)] = np.arange(len(self.buckets))
        self.usuals = np.full(BUCKETS, UNFORESEEN, dtype=np.int32)
        self.usuals[list(self.buckets)] = _UNKNOWN
        self._entries = np.zeros(len(self.buckets), dtype=np.int64)

    def learn(self, entries: np.ndarray) -> None:
        """Take note of how many entries a tile had in each bucket; the first that has any tells
        which magnitude is usual there."""
        self._entries += entries
        for slot in np.flatnonzero(entries):
            bucket = self.buckets[slot]
            if self.usuals[bucket] == _UNKNOWN:
                self.usuals[bucket] = (bucket << 16) + int(self.counts[slot].argmax())

    def candidates(self, buckets: Sequence[int]) -> Candidates:
        """The magnitudes counted in `buckets`, all of which were foreseen."""
        found: Candidates = {}
        for bucket in buckets:
            slot = self.slots[bucket]
            counts = self.counts[slot].astype(np.int64)
            if self.usuals[bucket] != _UNKNOWN:
                counts[self.usuals[bucket] & 0xFFFF] += self._entries[slot] - counts.sum()
            low = np.flatnonzero(counts)
            found[bucket] = (low, counts[low])
        return found


NOTHING_FORESEEN = Foreseen(())


def sample_rows(shape: Shape) -> Iterator[tuple[int, int]]:
    """(start, stop) of the rows of a tensor that belong to the sample."""
    for index, (start, stop) in enumerate(tiles(shape)):
        if index % _EVERY == 0:
            yield start, start + math.ceil((stop - start) / _SHARE) if len(shape) > 1 else stop


def count_buckets(values: torch.Tensor) -> np.ndarray:
    """How many entries of float32 `values` each bucket holds, and how many of these are short,
    int64 (2, BUCKETS)."""
    bits = values.reshape(-1).view(torch.int32) & 0x7FFFFFFF
    is_short = ((bits & 0xFFFF) == 0).to(torch.int32)
    counts = torch.bincount((bits >> 16) + BUCKETS * is_short, minlength=2 * BUCKETS)
    long, short = counts.reshape(2, BUCKETS).cpu().numpy()
    return np.stack([long + short, short])


def foresee(sample: np.ndarray, densities: Sequence[float]) -> tuple[int, ...]:
    """The buckets that may hold a threshold, given how many of the sample each bucket holds.

    Bucket 0 (zeros, and what is below 2^-133) and the smallest entry need no candidates:
    `raylab.reduce.threshold` knows them without. A range wider than a few buckets is given up.
    """
    size = int(sample.sum())
    if size == 0:
        return ()
    from_top = np.cumsum(sample[::-1])
    found: set[int] = set()
    for density in densities:
        high, low = (_bucket(from_top, rank) for rank in _margin(density, size))
        # Rows of a low-rank delta are alike, so the sample may miss by a bucket more.
        low, high = max(low - 1, 0), min(high + 1, BUCKETS - 1)
        # In bf16 few buckets are used; the others of a range hold nothing.
        used = low + np.flatnonzero(sample[low : high + 1])
        if density < 1 and len(used) <= _WIDEST:
            found.update(used.tolist())
    return tuple(sorted(found - {0}))


def guess(sample: np.ndarray, density: float) -> int | None:
    """The magnitude bits of the threshold, or 0 where all that is not zero is kept; None where
    the sample, as `count_buckets` gives it, leaves more than one magnitude."""
    counts, short = sample
    size = int(counts.sum())
    if density >= 1 or size == 0:
        return 0
    from_top = np.cumsum(counts[::-1])
    first, last = _margin(density, size)
    bucket = _bucket(from_top, first)
    end = int(from_top[BUCKETS - 1 - bucket])
    # The short magnitude is the smallest of its bucket.
    is_tied = end - int(short[bucket]) < first and last <= end
    return bucket << 16 if is_tied else None


def _margin(density: float, size: int) -> tuple[float, float]:
    """(first, last) of the ranks, the largest entry's being 1, that the threshold may have."""
    margin = _DEVIATIONS * math.sqrt(density * (1 - density) * size) + 1
    return max(density * size - margin, 1), min(density * size + margin, size)


def _bucket(from_top: np.ndarray, rank: float) -> int:
    """The bucket of the entry at a rank, given how many each bucket and those above it hold."""
    return BUCKETS - 1 - int(np.searchsorted(from_top, rank))
