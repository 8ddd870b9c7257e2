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

from raylab.reduce.kernels import (
    Moments,
    Norms,
    bucket_sums,
    exact_sums,
    magnitude_of,
    magnitude_sums,
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
    """The buckets that hold the num_keep-th largest entry of each density, sorted."""
    numel = int(moments[0].sum())
    if numel == 0:
        return []
    return sorted({_boundary(moments, num_keep(density, numel)) for density in densities})


def _boundary(moments: Moments, keep: int) -> int:
    from_top = np.cumsum(moments[0][::-1])
    return len(from_top) - 1 - int(np.searchsorted(from_top, keep))


def at_density(moments: Moments, found: Mapping[int, int], density: float) -> AtDensity:
    """Threshold and trimmed norms at `density`.

    `found` holds the candidates of the boundary bucket, by magnitude bits, over all shards.
    """
    numel = int(moments[0].sum())
    keep = num_keep(density, numel)
    bucket = _boundary(moments, keep)
    above = moments.copy()
    above[:, : bucket + 1] = 0
    taken = int(above[0].sum())
    l1, l2 = exact_sums(above)
    mine = sorted(((bits, n) for bits, n in found.items() if bits >> 16 == bucket), reverse=True)
    assert sum(n for _, n in mine) == moments[0, bucket], "candidates are missing"
    at_or_above = taken
    threshold = 0
    for bits, count in mine:
        kept = min(count, keep - taken)
        first, second = magnitude_sums(bits)
        l1, l2, taken = l1 + kept * first, l2 + kept * second, taken + kept
        at_or_above, threshold = at_or_above + count, bits
        if taken == keep:
            break
    trimmed, whole = Norms(l1_exact=l1, l2_exact=l2), _whole(moments)
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


def _whole(moments: Moments) -> Norms:
    l1, l2 = exact_sums(moments)
    return Norms(l1_exact=l1, l2_exact=l2)


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
