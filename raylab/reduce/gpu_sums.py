"""The exact sums of one comparison on a GPU, and how torch operations add to them.

Model: see `raylab.reduce.gpu_kernels` for the tables. They stay on the GPU until a shard ends;
`magnitudes`, `by_tensor` and `candidates` copy them to the host.
Invariant: sums are integers: torch operations and kernels fill the same tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from raylab.reduce.gpu_kernels import EXPONENTS, PARTS, exact_of, moments_of
from raylab.reduce.histogram import (
    BUCKETS,
    INFINITY,
    NONE,
    Candidates,
    Extremes,
    Magnitudes,
    Norms,
    magnitude_of,
)

_TORCH_ENTRIES = 1 << 22
_LOW, _MASK = 0xFFFF, 0x7FFFFFFF


@dataclass
class Sums:
    """The exact sums of one comparison over some tensors, on the GPU; see `gpu_kernels`.

    moments: int64 (4, BUCKETS), zeros left out. rows: int16 (BUCKETS,). counts: int32
    (K * 65536 + 1,), the last entry being rubbish. exponents: int64 (tensors, EXPONENTS, PARTS).
    ends: int32 (tensors, 2). totals: int64 (tensors, 2), how many entries
    are zero, and how many have bits above `tolerance`.
    """

    buckets: tuple[int, ...]
    moments: torch.Tensor
    rows: torch.Tensor
    counts: torch.Tensor
    exponents: torch.Tensor
    ends: torch.Tensor
    totals: torch.Tensor
    numel: list[int]
    tolerance: int = 0
    _arrays: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    @classmethod
    def empty(
        cls, device: torch.device, buckets: Sequence[int], tensors: int, tolerance: int = 0
    ) -> Sums:
        """Nothing is added yet; entries in `buckets` will be counted by magnitude, and those whose
        magnitude bits are above `tolerance` as moved."""
        rows = torch.full((BUCKETS,), -1, dtype=torch.int16)
        rows[list(buckets)] = torch.arange(len(buckets), dtype=torch.int16)
        ends = torch.tensor([[0, NONE]] * tensors, dtype=torch.int32).reshape(-1, 2)
        counts = max(1, len(buckets)) * (_LOW + 1) + 1
        wide = partial(torch.zeros, dtype=torch.int64, device=device)
        return cls(
            buckets=tuple(buckets),
            moments=wide((4, BUCKETS)),
            rows=rows.to(device),
            counts=torch.zeros(counts, dtype=torch.int32, device=device),
            exponents=wide((tensors, EXPONENTS, PARTS)),
            ends=ends.to(device),
            totals=wide((tensors, 2)),
            numel=[0] * tensors,
            tolerance=tolerance,
        )

    def tables(self, tensor: int) -> tuple[torch.Tensor, ...]:
        """(rows, counts, moments, exponents, ends, totals) of one tensor, as kernels take them."""
        return (
            self.rows,
            self.counts[:-1].view(-1, _LOW + 1),
            self.moments,
            self.exponents[tensor],
            self.ends[tensor],
            self.totals[tensor],
        )

    def arrays(self, tensor: int, convert: Callable[[torch.Tensor], Any]) -> tuple[Any, ...]:
        """The tables of one tensor, each converted once: that takes longer than many kernels."""
        if tensor not in self._arrays:
            self._arrays[tensor] = tuple(map(convert, self.tables(tensor)))
        return self._arrays[tensor]

    def magnitudes(self) -> Magnitudes:
        """Those of all tensors together, without their norms, which follow by tensor."""
        found = moments_of(self.moments.cpu().numpy())
        found[0, 0] += int(self.totals[:, 0].sum())
        return Magnitudes(moments=found)

    def by_tensor(self) -> Iterable[tuple[int, Norms, Extremes]]:
        """(number, norms, extremes) of every tensor that has entries."""
        tables = (self.exponents, self.ends, self.totals)
        exponents, ends, totals = (x.cpu().numpy() for x in tables)
        for tensor, numel in enumerate(self.numel):
            if numel:
                largest, smallest = ends[tensor].tolist()
                zeros, moved = totals[tensor].tolist()
                extremes = Extremes(largest, smallest, numel - zeros, moved)
                l1, l2 = exact_of(exponents[tensor])
                linf = magnitude_of(largest) if largest < INFINITY else 0.0
                yield tensor, Norms(numel, extremes.nonzero, linf, l1, l2, moved), extremes

    def candidates(self, buckets: Sequence[int]) -> Candidates:
        """The magnitudes counted in `buckets`, all of which were foreseen."""
        entries = self.moments[0].cpu().numpy()
        found: Candidates = {}
        for bucket in buckets:
            first = self.buckets.index(bucket) * (_LOW + 1)
            counts = self.counts[first : first + _LOW + 1].cpu().numpy().astype(np.int64)
            # Kernels do not count lower bits of 0, which most differences of bf16 weights have.
            counts[0] = entries[bucket] - counts[1:].sum()
            if bucket == 0:
                counts[0] += int(self.totals[:, 0].sum())
            low = np.flatnonzero(counts)
            found[bucket] = (low, counts[low])
        return found


def add_by_torch(a: torch.Tensor, b: torch.Tensor | None, sums: Sums, tensor: int) -> None:
    """Add the magnitudes of float32(a) - float32(b), or of `a`, by torch operations."""
    rows, _, moments, exponents, ends, totals = sums.tables(tensor)
    tops = torch.arange(BUCKETS, device=a.device).view(EXPONENTS, -1) % 128
    tops[1:] += 128
    for start in range(0, a.numel(), _TORCH_ENTRIES):
        part = slice(start, start + _TORCH_ENTRIES)
        values = a.reshape(-1)[part].to(torch.float32)
        if b is not None:
            values = values - b.reshape(-1)[part].to(torch.float32)
        bits = (values.view(torch.int32) & _MASK).to(torch.int64)
        bucket, low = bits >> 16, bits & _LOW
        square, none = low * low, (bits == 0).sum()
        table = torch.zeros_like(moments)
        ones = torch.ones_like(bits)
        for row, weights in zip(table, (ones, low, square >> 16, square & _LOW), strict=True):
            row.scatter_add_(0, bucket, weights)
        table[0, 0] -= none
        moments += table
        entries, first, upper, lower = table.view(4, EXPONENTS, -1)
        columns = (entries * tops, first, entries * tops * tops, first * tops, upper, lower)
        exponents += torch.stack([column.sum(dim=1) for column in columns], dim=1)
        totals += torch.stack([none, (bits > sums.tolerance).sum()])
        ends[0] = torch.maximum(ends[0], bits.max().to(torch.int32))
        ends[1] = torch.minimum(ends[1], bits.min().to(torch.int32))
        row = rows[bucket].to(torch.int64)
        rubbish = sums.counts.numel() - 1
        place = torch.where((row >= 0) & (low > 0), row * (_LOW + 1) + low, rubbish)
        sums.counts.scatter_add_(0, place, torch.ones_like(place, dtype=torch.int32))
