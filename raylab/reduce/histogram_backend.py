"""The tallies of a device: compiled loops on a CPU, torch operations elsewhere.

Model: a tally belongs to one thread and one comparison. It takes differences in, and
adds their sums to those of a tensor. On a CPU, where no histogram is asked, it sums intervals.
Invariant: all tallies give the same integers for the same values. torch's bincount takes weights
in float64, which holds these integers exactly in a tile of at most 2^20 entries. On a GPU the same
lines run, atomics included, since exact sums commute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from raylab.errors import NonFiniteError
from raylab.reduce.histogram import (
    BUCKETS,
    INFINITY,
    LOW_BITS,
    LOW_MASK,
    TILE,
    BucketCounts,
    Candidates,
    Extremes,
    Magnitudes,
    Moments,
    carry,
    no_moments,
    norms_of,
)
from raylab.reduce.histogram_numba import CompiledTally, Table, squares_of
from raylab.reduce.interval_tally import IntervalTally
from raylab.reduce.threshold_sampling import add_values
from raylab.weights.adapter_parts import Factors


class Tally(Protocol):
    """One thread's sums of one comparison, until they are flushed."""

    buckets: tuple[int, ...]
    """The buckets whose magnitudes are counted."""

    def add(self, values: torch.Tensor) -> None:
        """Take in float32 values."""

    def add_difference(self, a: torch.Tensor, b: torch.Tensor) -> None:
        """Take in float32(a) - float32(b), of one shape in any float dtypes."""

    def add_products(self, a: Factors, b: Factors, start: int, stop: int) -> None:
        """Take in rows [start, stop) of the difference of two low-rank deltas."""

    def flush(self, into: Magnitudes) -> Extremes:
        """Add the sums since the last call to `into`; returns the extremes of the same entries."""

    def candidates(self, buckets: Sequence[int]) -> Candidates:
        """All magnitudes that were counted in `buckets`."""


def tallies_for(
    device: torch.device, buckets: Mapping[str, Sequence[int]], histograms: bool
) -> dict[str, Tally]:
    """An empty tally for each comparison on `device`, which counts in `buckets`."""
    if device.type != "cpu":
        return {pair: TorchTally(wanted) for pair, wanted in buckets.items()}
    if not histograms:
        return {pair: IntervalTally(wanted) for pair, wanted in buckets.items()}
    table = Table()
    return {pair: CompiledTally(wanted, table) for pair, wanted in buckets.items()}


class TorchTally:
    """A histogram by torch operations, on the device of the values."""

    def __init__(self, buckets: Sequence[int]) -> None:
        """Nothing is taken in yet."""
        self.buckets = tuple(buckets)
        self._counts = BucketCounts(buckets)
        self._values: list[torch.Tensor] = []

    def add(self, values: torch.Tensor) -> None:
        """Take in float32 `values`."""
        self._values.append(values)
        for bucket, (low, counts) in candidates(values, self.buckets).items():
            self._counts.counts[self._counts.slots[bucket], low] += counts

    def add_difference(self, a: torch.Tensor, b: torch.Tensor) -> None:
        """Take in float32(a) - float32(b)."""
        self.add(a.to(torch.float32) - b.to(torch.float32))

    def add_products(self, a: Factors, b: Factors, start: int, stop: int) -> None:
        """Low-rank deltas are held whole on a GPU."""
        raise NotImplementedError("products are formed on a CPU alone")

    def flush(self, into: Magnitudes) -> Extremes:
        """Move the sums into `into`. Raises NonFiniteError."""
        found, moments = Extremes(), no_moments()
        for values in self._values:
            moments += bucket_moments(values)
            found += extremes(values)
        self._values.clear()
        into.merge(Magnitudes(norms_of(moments, found), found, moments))
        return found

    def candidates(self, buckets: Sequence[int]) -> Candidates:
        """All magnitudes that were counted in `buckets`."""
        return self._counts.candidates(buckets)


def magnitude_bits(values: torch.Tensor) -> torch.Tensor:
    """int32: the bits of |value|, for float32 `values`, flat. Raises NonFiniteError."""
    bits = values.reshape(-1).view(torch.int32) & 0x7FFFFFFF
    if bits.numel() and int(bits.max()) >= INFINITY:
        count = int((bits >= INFINITY).sum())
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
    carry(total)
    return total


def _tile_moments(bits: torch.Tensor) -> Moments:
    buckets = (bits >> LOW_BITS).to(torch.int64)
    low = (bits & LOW_MASK).to(torch.float64)
    sums = [
        torch.bincount(buckets, minlength=BUCKETS),
        torch.bincount(buckets, weights=low, minlength=BUCKETS),
        torch.bincount(buckets, weights=low * low, minlength=BUCKETS),
    ]
    count, first, second = (part.cpu().numpy().astype(np.int64) for part in sums)
    return np.stack([count, first, second >> 32, second & 0xFFFFFFFF])


def extremes(values: torch.Tensor) -> Extremes:
    """The extremes of float32 `values`. Raises NonFiniteError."""
    bits = magnitude_bits(values)
    if not bits.numel():
        return Extremes()
    return Extremes(int(bits.max()), int(bits.min()), int(torch.count_nonzero(bits)))


def candidates(values: torch.Tensor, buckets: Sequence[int]) -> Candidates:
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


def squares_by_tile(values: torch.Tensor, heights: Sequence[int]) -> list[float]:
    """The sum of squares of each of some tiles, whose rows lie one below the other, accumulated in
    float64."""
    if len(heights) == 1:
        return [_squares(values)]
    return [_squares(tile) for tile in values.split(list(heights))]


def _squares(values: torch.Tensor) -> float:
    if values.device.type == "cpu":
        return squares_of(values)
    return float(values.to(torch.float64).square().sum())


def add_sample(values: torch.Tensor, counts: np.ndarray) -> None:
    """Add the buckets of float32 `values`, as `count_buckets` counts them, to `counts`."""
    if values.device.type == "cpu":
        add_values(values, counts)
    else:
        counts += count_buckets(values)
