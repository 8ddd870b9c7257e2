"""Moments, extremes and candidates of an array by plain torch operations."""

from __future__ import annotations

import numpy as np
import torch

from raylab.errors import NonFiniteError
from raylab.reduce.histogram import (
    BUCKETS,
    INFINITY,
    LOW_BITS,
    LOW_MASK,
    TILE,
    Extremes,
    carry,
    no_moments,
)


def magnitude_bits(values: torch.Tensor) -> torch.Tensor:
    """int32: the bits of |value|, for float32 `values`, flat. Raises NonFiniteError."""
    bits = values.reshape(-1).view(torch.int32) & 0x7FFFFFFF
    if bits.numel() and int(bits.max()) >= INFINITY:
        count = int((bits >= INFINITY).sum())
        raise NonFiniteError(
            "a difference is not finite", found=f"{count} entries", expected="numbers"
        )
    return bits


def bucket_moments(values: torch.Tensor):
    """The moments of float32 `values` of any shape. Raises NonFiniteError."""
    total = no_moments()
    bits = magnitude_bits(values)
    for start in range(0, bits.numel(), TILE):
        total += _tile_moments(bits[start : start + TILE])
    carry(total)
    return total


def _tile_moments(bits: torch.Tensor):
    buckets = (bits >> LOW_BITS).to(torch.int64)
    low = (bits & LOW_MASK).to(torch.float64)
    sums = [
        torch.bincount(buckets, minlength=BUCKETS),
        torch.bincount(buckets, weights=low, minlength=BUCKETS),
        torch.bincount(buckets, weights=low * low, minlength=BUCKETS),
    ]
    count, first, second = (part.cpu().numpy().astype(np.int64) for part in sums)
    return np.stack([count, first, second >> 32, second & 0xFFFFFFFF])


def extremes(values: torch.Tensor, tolerance: float = 0) -> Extremes:
    """The extremes of float32 `values`, with those above `tolerance` moved. Raises
    NonFiniteError."""
    bits = magnitude_bits(values)
    if not bits.numel():
        return Extremes()
    moved = int((values.abs().to(torch.float64) > tolerance).sum())
    return Extremes(int(bits.max()), int(bits.min()), int(torch.count_nonzero(bits)), moved)


def candidates(values: torch.Tensor, buckets):
    """The magnitudes of float32 `values` that fall in `buckets`, and their counts (int64)."""
    if not buckets:
        return {}
    bits = magnitude_bits(values)
    wanted = torch.zeros(BUCKETS, dtype=torch.bool, device=bits.device)
    wanted[torch.tensor(list(buckets), device=bits.device)] = True
    chosen = bits[wanted[(bits >> LOW_BITS).to(torch.int64)]]
    found = [part.cpu().numpy() for part in torch.unique(chosen, return_counts=True)]
    magnitudes, counts = found[0].astype(np.int64), found[1].astype(np.int64)
    edges = [np.searchsorted(magnitudes >> LOW_BITS, (b, b + 1)) for b in buckets]
    return {
        bucket: (magnitudes[start:stop] & LOW_MASK, counts[start:stop])
        for bucket, (start, stop) in zip(buckets, edges, strict=True)
    }


def count_buckets(values: torch.Tensor) -> np.ndarray:
    """How many entries of float32 `values` each bucket holds, and how many of these are short,
    int64 (2, BUCKETS)."""
    bits = values.reshape(-1).view(torch.int32) & 0x7FFFFFFF
    is_short = ((bits & 0xFFFF) == 0).to(torch.int32)
    counts = torch.bincount((bits >> 16) + BUCKETS * is_short, minlength=2 * BUCKETS)
    long, short = counts.reshape(2, BUCKETS).cpu().numpy()
    return np.stack([long + short, short])
