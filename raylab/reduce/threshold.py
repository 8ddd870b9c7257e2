"""The exact global threshold at a density, out of parts that do not grow with the model.

Model: the buckets of all shards, added up, say which one holds the num_keep-th largest entry.
Each shard then offers the entries of that bucket as candidates, as (magnitude, count) pairs,
and the threshold is found among them. TIES-Merging (Yadav et al. 2023, arXiv:2306.01708) trims
over the whole task vector; this is that trim, without ever sorting it.
Invariant: num_keep = max(1, floor(density * numel)) with the density as the decimal that is
written; the trimmed norms are those of exactly num_keep largest entries, however many tie at
the threshold (ties have one magnitude); `at_or_above` counts all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from raylab.reduce.histogram import (
    Moments,
    Norms,
    bucket_sums,
    exact_sums,
    magnitude_of,
    partial_sums,
)

CURVE_POINTS = 512


@dataclass(frozen=True)
class AtDensity:
    """What is kept at one density. Shares are of the whole norm; None where that is zero."""

    density: float
    num_keep: int
    threshold: float
    at_or_above: int
    l1: float
    l2: float
    l1_share: float | None
    l2_share: float | None


def num_keep(density: float, numel: int) -> int:
    """How many entries a density keeps: 0.29 of 100 is 29, though 0.29 * 100 < 29 in float64."""
    return max(1, math.floor(Fraction(repr(density)) * numel))


def boundary_buckets(moments: Moments, densities: Sequence[float]) -> list[int]:
    """The buckets whose candidates are needed to tell the threshold of each density, sorted.

    Not needed: the bucket of the smallest entry at density 1, and one of a single magnitude.
    """
    numel = int(moments[0].sum())
    if numel == 0:
        return []
    keeps = {num_keep(density, numel) for density in densities} - {numel}
    found = {_boundary(moments, keep) for keep in keeps}
    return sorted(bucket for bucket in found if _only_magnitude(moments, bucket) is None)


def _boundary(moments: Moments, keep: int) -> int:
    from_top = np.cumsum(moments[0][::-1])
    return len(from_top) - 1 - int(np.searchsorted(from_top, keep))


def _only_magnitude(moments: Moments, bucket: int) -> int | None:
    """The lower bits that all entries of a bucket have; None where they differ.

    They are equal where the mean of their squares is the square of their mean.
    """
    count, first, upper, lower = (int(value) for value in moments[:, bucket])
    if count * ((upper << 32) + lower) != first * first:
        return None
    return first // count


def at_density(
    moments: Moments, smallest: int, found: Mapping[int, np.ndarray], density: float
) -> AtDensity:
    """Threshold and trimmed norms at `density`, of entries with these moments and the smallest
    magnitude bits `smallest`.

    `found` holds the counts of the boundary buckets by lower bits, int64 (65536,), over all
    shards, where `boundary_buckets` asked for them.
    """
    numel = int(moments[0].sum())
    keep = num_keep(density, numel)
    whole = exact_sums(moments)
    if keep == numel:
        return kept_at(density, keep, smallest, numel, whole, whole)
    bucket = _boundary(moments, keep)
    above = moments.copy()
    above[:, : bucket + 1] = 0
    taken = int(above[0].sum())
    counts = _counts(moments, bucket, found)
    inside, threshold, reached = within(bucket, counts, keep - taken)
    upper = exact_sums(above)
    trimmed = (upper[0] + inside[0], upper[1] + inside[1])
    return kept_at(density, keep, threshold, taken + reached, trimmed, whole)


def within(bucket: int, counts: np.ndarray, keep: int) -> tuple[tuple[int, int], int, int]:
    """Of the `keep` largest entries of a bucket, whose counts by lower bits are given: (L1 and
    sum of squares, the bits of the last magnitude, how many entries are at or above it)."""
    from_top = np.cumsum(counts[::-1])
    steps = int(np.searchsorted(from_top, keep))
    low = len(counts) - 1 - steps
    kept = np.where(np.arange(len(counts)) > low, counts, 0)
    kept[low] = keep - int(kept.sum())
    return partial_sums(bucket, kept), (bucket << 16) + low, int(from_top[steps])


def _counts(moments: Moments, bucket: int, found: Mapping[int, np.ndarray]) -> np.ndarray:
    only = _only_magnitude(moments, bucket)
    if only is None:
        counts = found[bucket]
    else:
        counts = np.zeros(1 << 16, dtype=np.int64)
        counts[only] = moments[0, bucket]
    assert counts.sum() == moments[0, bucket], "candidates are missing"
    return counts


def kept_at(
    density: float,
    keep: int,
    threshold: int,
    at_or_above: int,
    trimmed: tuple[int, int],
    whole: tuple[int, int],
) -> AtDensity:
    """The outcome at a density, out of magnitude bits, counts, and (L1, sum of squares) in the
    units of `Norms`."""
    part, all_of_it = (Norms(l1_exact=l1, l2_exact=l2) for l1, l2 in (trimmed, whole))
    return AtDensity(
        density=density,
        num_keep=keep,
        threshold=magnitude_of(threshold),
        at_or_above=at_or_above,
        l1=part.l1,
        l2=part.l2,
        l1_share=_share(part.l1, all_of_it.l1),
        l2_share=_share(part.l2, all_of_it.l2),
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def curve(
    moments: Moments, points: int = CURVE_POINTS
) -> list[tuple[float, float | None, float | None]]:
    """(density, L1 share, L2 share) at log-spaced densities, the last one (1, 1, 1).

    Exact where a density falls on the edge of a bucket; within a bucket, whose magnitudes
    differ by less than 1 %, sums are interpolated linearly.
    """
    numel = int(moments[0].sum())
    if numel == 0:
        return []
    counts, l1, l2 = _cumulative(moments)
    lowest = min(1.0, max(1 / numel, 1e-6))
    densities = np.append(np.geomspace(lowest, 1, points)[:-1], 1.0)
    rows = []
    for density in densities:
        first, second = (np.interp(density * numel, counts, sums) for sums in (l1, l2))
        l1_share = _share(float(first), float(l1[-1]))
        l2_share = _share(math.sqrt(second), math.sqrt(l2[-1]))
        rows.append((float(density), l1_share, l2_share))
    return rows


def _cumulative(moments: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries, L1 and sum of squares from the largest bucket down, each starting at 0."""
    counts, l1, l2 = [0], [0], [0]
    for bucket in np.flatnonzero(moments[0])[::-1]:
        first, second = bucket_sums(moments, int(bucket))
        counts.append(counts[-1] + int(moments[0, bucket]))
        l1.append(l1[-1] + first)
        l2.append(l2[-1] + second)
    # Divided as integers, which Python rounds once, before they become float64.
    return (
        np.array(counts, dtype=np.float64),
        np.array([value / (1 << 149) for value in l1]),
        np.array([value / (1 << 298) for value in l2]),
    )
