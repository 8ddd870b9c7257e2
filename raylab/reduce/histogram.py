"""Exact norms of float32 values: integer moments per bucket of magnitude.

Model: the 31 bits of a float32 magnitude order like the magnitude itself. The upper 15 choose
one of 32,768 buckets; within a bucket the exponent and the upper 7 bits of the significand are
fixed, so the bucket's sums follow from three integers: how many entries, the sum of their lower
16 bits, and the sum of the squares of these. Integer sums are exact and do not depend on any
order, so every norm is the exact sum, rounded once: the same bits for any tiles, threads,
shards, nodes or devices.

    magnitude = m * 2^(e - 150), m = hi + low, e = max(1, exponent field)
    sum m     = n * hi + S1
    sum m^2   = n * hi^2 + 2 * hi * S1 + S2,   S1 = sum low, S2 = sum low^2

Where only thresholds are asked, and a sample foresaw their buckets, no histogram is filled: the
buckets foreseen form intervals, and the exact sums of the entries above each are enough.

Invariant: nothing is rounded before the end. Sums stay below 2^39 entries in all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

BUCKETS = 1 << 15
TILE = 1 << 20
LOW_BITS = 16
LOW_MASK = (1 << LOW_BITS) - 1
INFINITY = 0x7F800000
NONE = 0x7FFFFFFF
_L1_UNIT, _L2_UNIT = 149, 298

Moments = np.ndarray
"""int64 (4, BUCKETS): entries, sum of low, sum of low^2 // 2^32, sum of low^2 % 2^32."""


def no_moments() -> Moments:
    """The moments of nothing."""
    return np.zeros((4, BUCKETS), dtype=np.int64)


def add_moments(total: Moments, more: Moments) -> Moments:
    """Add `more` to `total`, in place; `total`."""
    total += more
    carry(total)
    return total


def carry(moments: Moments) -> None:
    """Bring the fourth row below 2^32, in place."""
    moments[2] += moments[3] >> 32
    moments[3] &= 0xFFFFFFFF


@dataclass(frozen=True)
class Norms:
    """Exact norms: l1_exact in units of 2^-149, l2_exact the sum of squares in units of 2^-298.
    moved: how many entries are above a tolerance."""

    numel: int = 0
    nonzero: int = 0
    linf: float = 0.0
    l1_exact: int = 0
    l2_exact: int = 0
    moved: int = 0

    def __add__(self, other: Norms) -> Norms:
        return Norms(
            self.numel + other.numel,
            self.nonzero + other.nonzero,
            max(self.linf, other.linf),
            self.l1_exact + other.l1_exact,
            self.l2_exact + other.l2_exact,
            self.moved + other.moved,
        )

    @property
    def l1(self) -> float:
        """The sum of magnitudes, rounded once."""
        return self.l1_exact / (1 << _L1_UNIT)

    @property
    def l2(self) -> float:
        """The square root of the sum of squares."""
        return math.sqrt(self.l2_exact / (1 << _L2_UNIT))


@dataclass(frozen=True)
class Extremes:
    """Of some entries: the largest and the smallest magnitude bits, how many are not zero, and how
    many are above a tolerance."""

    largest: int = 0
    smallest: int = NONE
    nonzero: int = 0
    moved: int = 0

    def __add__(self, other: Extremes) -> Extremes:
        return Extremes(
            max(self.largest, other.largest),
            min(self.smallest, other.smallest),
            self.nonzero + other.nonzero,
            self.moved + other.moved,
        )


@dataclass(frozen=True)
class Interval:
    """Buckets `first` to `last`, and the entries above them: how many, and their exact sums."""

    first: int
    last: int
    entries: int = 0
    l1_exact: int = 0
    l2_exact: int = 0

    def __add__(self, other: Interval) -> Interval:
        assert (self.first, self.last) == (other.first, other.last), "of the same buckets"
        return Interval(
            self.first,
            self.last,
            self.entries + other.entries,
            self.l1_exact + other.l1_exact,
            self.l2_exact + other.l2_exact,
        )


def intervals_of(buckets: Sequence[int]) -> list[Interval]:
    """An interval for every run of neighbouring `buckets`, the largest first."""
    found: list[Interval] = []
    for bucket in sorted(buckets):
        if found and found[-1].last == bucket - 1:
            found[-1] = Interval(found[-1].first, bucket)
        else:
            found.append(Interval(bucket, bucket))
    return found[::-1]


@dataclass
class Magnitudes:
    """The sums over the magnitudes of one comparison; those of other entries add up.

    moments: the histogram, where one was filled. intervals: in its place, the largest first.
    """

    norms: Norms = field(default_factory=Norms)
    extremes: Extremes = field(default_factory=Extremes)
    moments: Moments | None = None
    intervals: list[Interval] = field(default_factory=list)

    def merge(self, other: Magnitudes) -> None:
        """Add the sums of other entries, measured in the same way."""
        self.norms += other.norms
        self.extremes += other.extremes
        if other.moments is not None:
            moments = no_moments() if self.moments is None else self.moments
            self.moments = add_moments(moments, other.moments)
        pairs = zip(self.intervals, other.intervals, strict=True) if self.intervals else ()
        self.intervals = [mine + more for mine, more in pairs] or list(other.intervals)


def norms_of(moments: Moments, found: Extremes) -> Norms:
    """The norms of entries with these moments and extremes."""
    l1, l2 = exact_sums(moments)
    return Norms(
        numel=int(moments[0].sum()),
        nonzero=found.nonzero,
        linf=magnitude_of(found.largest),
        l1_exact=l1,
        l2_exact=l2,
        moved=found.moved,
    )


def exact_sums(moments: Moments) -> tuple[int, int]:
    """(sum of magnitudes in 2^-149, sum of squares in 2^-298) over all buckets.

    The 128 buckets of an exponent share a shift, so their sums are added as int64 (below 2^38
    entries they fit), and only the exponents as integers without bounds.
    """
    count, first, upper, lower = moments.reshape(4, -1, 128)
    used = np.flatnonzero(count.any(axis=1))
    count, first = count[used], first[used]
    tops = np.arange(128) + np.where(used > 0, 128, 0)[:, None]
    parts = (count * tops, first, count * tops * tops, tops * first, upper[used], lower[used])
    l1 = l2 = 0
    for exponent, *sums in zip(
        used.tolist(), *(p.sum(axis=1).tolist() for p in parts), strict=True
    ):
        n, s, nn, ns, high, low = sums
        shift = max(exponent - 1, 0)
        l1 += ((n << LOW_BITS) + s) << shift
        l2 += ((nn << 32) + (ns << 17) + (high << 32) + low) << (2 * shift)
    return l1, l2


def bucket_sums(moments: Moments, bucket: int) -> tuple[int, int]:
    """(sum of magnitudes in 2^-149, sum of squares in 2^-298) of one bucket."""
    count, first, upper, lower = (int(value) for value in moments[:, bucket])
    second = (upper << 32) + lower
    hi, shift = _significand(bucket)
    return (count * hi + first) << shift, (count * hi * hi + 2 * hi * first + second) << (2 * shift)


def _significand(bucket: int) -> tuple[int, int]:
    """(upper part of the significand, shift) so that a magnitude is (hi + low) * 2^(shift-149)."""
    exponent = bucket >> 7
    hi = (bucket & 0x7F) << LOW_BITS
    return (hi + (1 << 23), exponent - 1) if exponent else (hi, 0)


def magnitude_of(bits: int) -> float:
    """The float32 magnitude with these bits."""
    return float(np.array(bits, dtype=np.int32).view(np.float32))


def bits_of(magnitude: float) -> int:
    """The bits of a float32 magnitude."""
    return int(np.array(magnitude, dtype=np.float32).view(np.int32))


def bits_below(tolerance: float) -> int:
    """The bits of the largest float32 magnitude that is not above `tolerance`: a float32 is above
    the one where it is above the other."""
    bits = bits_of(tolerance)
    return bits - (magnitude_of(bits) > tolerance)


Candidates = dict[int, tuple[np.ndarray, np.ndarray]]
"""By bucket: the lower 16 bits of the magnitudes found in it, and how many entries have each."""


def add_candidates(total: dict[int, np.ndarray], more: Candidates) -> None:
    """Add the counts of `more` to `total`: by bucket, int64 (65536,) counts by lower bits."""
    for bucket, (low, counts) in more.items():
        known = total.setdefault(bucket, np.zeros(LOW_MASK + 1, dtype=np.int64))
        known[low] += counts


def partial_sums(bucket: int, counts: np.ndarray) -> tuple[int, int]:
    """(sum of magnitudes in 2^-149, sum of squares in 2^-298) of the entries of `bucket` that
    `counts`, int64 (65536,), gives by their lower bits."""
    low = np.flatnonzero(counts)
    n = counts[low]
    square = low * low
    hi, shift = _significand(bucket)
    count, first = int(n.sum()), int((n * low).sum())
    second = (int((n * (square >> 16)).sum()) << 16) + int((n * (square & 0xFFFF)).sum())
    l1 = count * hi + first
    l2 = count * hi * hi + 2 * hi * first + second
    return l1 << shift, l2 << (2 * shift)
