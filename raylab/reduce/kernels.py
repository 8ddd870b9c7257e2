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

Invariant: NaN and infinity raise; nothing is ever rounded before the end. Counts stay below
2^31 entries per call, sums below 2^39 entries in all.

torch's bincount takes weights in float64, which holds these integers exactly in a tile of at
most 2^20 entries. On a GPU the same lines run, atomics included, since exact sums commute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raylab.errors import NonFiniteError

BUCKETS = 1 << 15
TILE = 1 << 20
_LOW_BITS = 16
_LOW_MASK = (1 << _LOW_BITS) - 1
_INFINITY = 0x7F800000
_L1_UNIT, _L2_UNIT = 149, 298

Moments = np.ndarray
"""int64 (4, BUCKETS): entries, sum of low, sum of low^2 // 2^32, sum of low^2 % 2^32."""


def no_moments() -> Moments:
    """The moments of nothing."""
    return np.zeros((4, BUCKETS), dtype=np.int64)


def magnitude_bits(values: torch.Tensor) -> torch.Tensor:
    """int32: the bits of |value|, for float32 `values`, flat. Raises NonFiniteError."""
    bits = values.reshape(-1).view(torch.int32) & 0x7FFFFFFF
    if bits.numel() and int(bits.max()) >= _INFINITY:
        count = int((bits >= _INFINITY).sum())
        raise NonFiniteError(
            "a difference is not finite", found=f"{count} entries", expected="numbers"
        )
    return bits


def bucket_moments(values: torch.Tensor) -> Moments:
    """The moments of float32 `values` of any shape. Raises NonFiniteError."""
    total = no_moments()
    bits = magnitude_bits(values)
    for start in range(0, bits.numel(), TILE):
        total += _tile_moments(bits[start : start + TILE])
    return _carried(total)


def _tile_moments(bits: torch.Tensor) -> Moments:
    buckets = (bits >> _LOW_BITS).to(torch.int64)
    low = (bits & _LOW_MASK).to(torch.float64)
    sums = [
        torch.bincount(buckets, minlength=BUCKETS),
        torch.bincount(buckets, weights=low, minlength=BUCKETS),
        torch.bincount(buckets, weights=low * low, minlength=BUCKETS),
    ]
    count, first, second = (part.cpu().numpy().astype(np.int64) for part in sums)
    return np.stack([count, first, second >> 32, second & 0xFFFFFFFF])


def add_moments(left: Moments, right: Moments) -> Moments:
    """The moments of both together."""
    return _carried(left + right)


def _carried(moments: Moments) -> Moments:
    moments[2] += moments[3] >> 32
    moments[3] &= 0xFFFFFFFF
    return moments


@dataclass(frozen=True)
class Norms:
    """Exact norms: l1_exact in units of 2^-149, l2_exact the sum of squares in units of 2^-298."""

    numel: int = 0
    nonzero: int = 0
    linf: float = 0.0
    l1_exact: int = 0
    l2_exact: int = 0

    def __add__(self, other: Norms) -> Norms:
        return Norms(
            self.numel + other.numel,
            self.nonzero + other.nonzero,
            max(self.linf, other.linf),
            self.l1_exact + other.l1_exact,
            self.l2_exact + other.l2_exact,
        )

    @property
    def l1(self) -> float:
        """The sum of magnitudes, rounded once."""
        return self.l1_exact / (1 << _L1_UNIT)

    @property
    def l2(self) -> float:
        """The square root of the sum of squares."""
        return math.sqrt(self.l2_exact / (1 << _L2_UNIT))


def tensor_norms(values: torch.Tensor, moments: Moments) -> Norms:
    """The norms of `values`, whose moments are given. An empty tensor has norms of zero."""
    if values.numel() == 0:
        return Norms()
    l1, l2 = exact_sums(moments)
    return Norms(
        numel=values.numel(),
        nonzero=int(torch.count_nonzero(values)),
        linf=float(values.abs().max()),
        l1_exact=l1,
        l2_exact=l2,
    )


def exact_sums(moments: Moments) -> tuple[int, int]:
    """(sum of magnitudes in 2^-149, sum of squares in 2^-298) over all buckets."""
    l1 = l2 = 0
    for bucket in np.flatnonzero(moments[0]):
        first, second = bucket_sums(moments, int(bucket))
        l1 += first
        l2 += second
    return l1, l2


def bucket_sums(moments: Moments, bucket: int) -> tuple[int, int]:
    """(sum of magnitudes in 2^-149, sum of squares in 2^-298) of one bucket."""
    count, first, upper, lower = (int(value) for value in moments[:, bucket])
    second = (upper << 32) + lower
    hi, shift = _significand(bucket)
    return (count * hi + first) << shift, (count * hi * hi + 2 * hi * first + second) << (2 * shift)


def magnitude_sums(bits: int) -> tuple[int, int]:
    """(magnitude in 2^-149, its square in 2^-298) of the float32 magnitude with these bits."""
    hi, shift = _significand(bits >> _LOW_BITS)
    value = (hi + (bits & _LOW_MASK)) << shift
    return value, value * value


def _significand(bucket: int) -> tuple[int, int]:
    """(upper part of the significand, shift) so that a magnitude is (hi + low) * 2^(shift-149)."""
    exponent = bucket >> 7
    hi = (bucket & 0x7F) << _LOW_BITS
    return (hi + (1 << 23), exponent - 1) if exponent else (hi, 0)


def magnitude_of(bits: int) -> float:
    """The float32 magnitude with these bits."""
    return float(np.array(bits, dtype=np.int32).view(np.float32))


def candidates(values: torch.Tensor, buckets: Sequence[int]) -> dict[int, int]:
    """{magnitude bits: how many entries} of the entries that fall in `buckets`."""
    if not buckets:
        return {}
    bits = magnitude_bits(values)
    wanted = torch.zeros(BUCKETS, dtype=torch.bool, device=bits.device)
    wanted[torch.tensor(list(buckets), device=bits.device)] = True
    chosen = bits[wanted[(bits >> _LOW_BITS).to(torch.int64)]]
    magnitudes, counts = torch.unique(chosen, return_counts=True)
    return dict(zip(magnitudes.tolist(), counts.tolist(), strict=True))


def add_candidates(total: dict[int, int], more: Mapping[int, int]) -> None:
    """Add the counts of `more` to `total`."""
    for bits, count in more.items():
        total[bits] = total.get(bits, 0) + count
