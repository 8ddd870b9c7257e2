"""The exact global threshold at a density, out of parts that do not grow with the model.

Model: the buckets of all shards, added up, say which one holds the num_keep-th largest entry.
Each shard then offers the entries of that bucket as candidates, as (magnitude, count) pairs,
and the threshold is found among them. Where intervals were summed in the place of a histogram, the
interval around the threshold takes the part of that bucket. TIES-Merging (Yadav et al. 2023,
arXiv:2306.01708) trims over the whole task vector; this is that trim, without ever sorting it.
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
    Interval,
    Magnitudes,
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
    """The entries kept at one density. Shares are of the whole norm; None where that is zero."""

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


def boundary_buckets(found: Magnitudes, densities: Sequence[float]) -> list[int]:
    """The buckets whose candidates are needed to find the threshold of each density, sorted.

    Not needed: the bucket of the smallest entry at density 1, and one of a single magnitude. Of
    an interval, all buckets are.
    """
    numel, moments = found.norms.numel, found.moments
    keeps = {num_keep(density, numel) for density in densities} - {numel} if numel else set()
    if moments is not None:
        buckets = {_boundary(moments, keep) for keep in keeps}
        return sorted(bucket for bucket in buckets if _only_magnitude(moments, bucket) is None)
    nearest = {_interval(found, keep) for keep in keeps} - {None}
    return sorted({b for each in nearest if each for b in range(each.first, each.last + 1)})


def _interval(found: Magnitudes, keep: int) -> Interval | None:
    """The lowest interval with fewer than `keep` entries above it."""
    return next((each for each in reversed(found.intervals) if each.entries < keep), None)


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
    found: Magnitudes, counts: Mapping[int, np.ndarray], density: float
) -> AtDensity | None:
    """Threshold and trimmed norms at `density`; None where no interval holds the threshold.

    `counts` holds the counts of buckets by lower bits, int64 (65536,), over all shards, where
    `boundary_buckets` asked for them.
    """
    whole = found.norms
    keep = num_keep(density, whole.numel)
    if keep >= whole.numel:
        smallest = found.extremes.smallest if whole.numel else 0
        return _kept(density, keep, smallest, whole.numel, whole, whole)
    place = _place(found, counts, keep)
    if place is None:
        return None
    above, inside = place
    sums, threshold, reached = _within(above.last, inside, keep - above.entries)
    trimmed = Norms(l1_exact=above.l1_exact + sums[0], l2_exact=above.l2_exact + sums[1])
    return _kept(density, keep, threshold, above.entries + reached, trimmed, whole)


def _place(
    found: Magnitudes, counts: Mapping[int, np.ndarray], keep: int
) -> tuple[Interval, np.ndarray] | None:
    """(the bucket of the `keep`-th largest entry with the sums above it, its counts)."""
    if found.moments is not None:
        bucket = _boundary(found.moments, keep)
        higher = found.moments.copy()
        higher[:, : bucket + 1] = 0
        above = Interval(bucket, bucket, int(higher[0].sum()), *exact_sums(higher))
        return above, _counts(found.moments, bucket, counts)
    interval = _interval(found, keep)
    if interval is None:
        return None
    entries, l1, l2 = interval.entries, interval.l1_exact, interval.l2_exact
    for bucket in range(interval.last, interval.first - 1, -1):
        inside = counts[bucket]
        size, sums = int(inside.sum()), partial_sums(bucket, inside)
        if entries + size >= keep:
            return Interval(bucket, bucket, entries, l1, l2), inside
        entries, l1, l2 = entries + size, l1 + sums[0], l2 + sums[1]
    return None


def _within(bucket: int, counts: np.ndarray, keep: int) -> tuple[tuple[int, int], int, int]:
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


def _kept(
    density: float, keep: int, threshold: int, at_or_above: int, trimmed: Norms, whole: Norms
) -> AtDensity:
    """The outcome at a density; `threshold` as magnitude bits."""
    return AtDensity(
        density=density,
        num_keep=keep,
        threshold=magnitude_of(threshold),
        at_or_above=at_or_above,
        l1=trimmed.l1,
        l2=trimmed.l2,
        l1_share=_share(trimmed.l1, whole.l1),
        l2_share=_share(trimmed.l2, whole.l2),
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
