"""Which kernel tallies tiles on a device: the compiled one on a CPU, torch elsewhere.

Invariant: both give the same integers for the same values. What only a GPU can check is that
torch's operations there are exact as well: bincount adds float64 weights that are integers
below 2^53, so that no order of its atomic additions can change a sum.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from raylab.reduce.histogram import Extremes, Moments, bucket_moments, candidates, extremes
from raylab.reduce.histogram_numba import CompiledTally, squares_of
from raylab.reduce.sample_histogram import add_values
from raylab.reduce.threshold_sampling import Foreseen, count_buckets


class Tally(Protocol):
    """One thread's sums of tiles, until they are flushed into moments."""

    def add(self, values: torch.Tensor, foreseen: Foreseen) -> None:
        """Take in a tile of float32 values."""

    def add_difference(self, a: torch.Tensor, b: torch.Tensor, foreseen: Foreseen) -> None:
        """Take in float32(a) - float32(b), tiles of one shape in any float dtypes."""

    def flush(self, moments: Moments) -> Extremes:
        """Move what was taken in into `moments`."""


class TorchTally:
    """The same in torch operations, on the device of the values."""

    def __init__(self) -> None:
        """Nothing taken in yet."""
        self._values: list[torch.Tensor] = []

    def add(self, values: torch.Tensor, foreseen: Foreseen) -> None:
        """Take in a tile of float32 `values`."""
        self._values.append(values)
        for bucket, (low, counts) in candidates(values, foreseen.buckets).items():
            foreseen.counts[foreseen.slots[bucket], low] += counts

    def add_difference(self, a: torch.Tensor, b: torch.Tensor, foreseen: Foreseen) -> None:
        """Take in float32(a) - float32(b)."""
        self.add(a.to(torch.float32) - b.to(torch.float32), foreseen)

    def flush(self, moments: Moments) -> Extremes:
        """Move what was taken in into `moments`. Raises NonFiniteError."""
        found = Extremes()
        for values in self._values:
            moments += bucket_moments(values)
            found += extremes(values)
        self._values.clear()
        return found


def tally_for(device: torch.device) -> Tally:
    """An empty tally for values on `device`."""
    return CompiledTally() if device.type == "cpu" else TorchTally()


def sum_of_squares(values: torch.Tensor) -> float:
    """The sum of squares of a tile, accumulated in float64."""
    if values.device.type == "cpu":
        return squares_of(values)
    return float(values.to(torch.float64).square().sum())


def add_sample(values: torch.Tensor, counts: np.ndarray) -> None:
    """Add the buckets of float32 `values`, as `count_buckets` counts them, to `counts`."""
    if values.device.type == "cpu":
        add_values(values, counts)
    else:
        counts += count_buckets(values)
