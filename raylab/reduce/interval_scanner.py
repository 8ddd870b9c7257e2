"""One thread's scan of pieces: sums above runs of buckets, and counts within them.

Model: a run is one or more neighbouring buckets (see `raylab.reduce.histogram`) that were foreseen
to hold a threshold. `Scanner` takes pieces of a difference, given as values or as the factors of
two low-rank deltas, through the compiled loops of `raylab.reduce.interval_loops`. The magnitude
that most entries of a run have (bf16 models have few magnitudes) is compared for, not counted one
by one; the first piece tells which it is.
Invariant: counts are exact, whatever was usual; sums are float64 within a piece, and integers in
the units of `raylab.reduce.histogram.Norms` beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raylab.reduce.histogram import BUCKETS, INFINITY, NONE, Extremes, Norms, magnitude_of
from raylab.reduce.interval_loops import TOGETHER, scan_bf16, scan_float, scan_products
from raylab.reduce.lora_product import operands
from raylab.weights.adapter_parts import Factors


@dataclass
class Above:
    """Of some entries: how many, and their exact sums as `Norms` has them."""

    entries: int = 0
    l1_exact: int = 0
    l2_exact: int = 0

    def add(self, entries: float, l1: float, l2: float) -> None:
        """Take in float64 sums of a piece; as integers they are added without rounding."""
        self.entries += int(entries)
        self.l1_exact += int(math.ldexp(l1, 149))
        self.l2_exact += int(math.ldexp(l2, 298))

    def merge(self, other: Above) -> None:
        """Take in the sums of other entries."""
        self.entries += other.entries
        self.l1_exact += other.l1_exact
        self.l2_exact += other.l2_exact


@dataclass
class Piece:
    """What one piece of rows gave: `above[0]` is of all entries, `squares` of b's weights."""

    numel: int
    extremes: Extremes
    above: list[Above]
    squares: float

    @property
    def norms(self) -> Norms:
        """The norms of the piece."""
        whole, ends = self.above[0], self.extremes
        linf = magnitude_of(ends.largest)
        return Norms(self.numel, ends.nonzero, linf, whole.l1_exact, whole.l2_exact)


def runs_of(buckets: Sequence[int]) -> list[tuple[int, int]]:
    """(first, last) of every run of neighbouring `buckets`, the largest first."""
    found: list[tuple[int, int]] = []
    for bucket in sorted(buckets):
        if found and found[-1][1] == bucket - 1:
            found[-1] = (found[-1][0], bucket)
        else:
            found.append((bucket, bucket))
    return found[::-1]


class Scanner:
    """One thread's counts of the entries in each run. Not to be shared."""

    def __init__(self, runs: Sequence[tuple[int, int]]) -> None:
        """Nothing counted yet in `runs`."""
        self.runs = list(runs)
        lengths = [last - first + 1 for first, last in runs]
        self._starts = np.cumsum([0, *lengths])
        self.counts = np.zeros((int(self._starts[-1]), 1 << 16), dtype=np.int32)
        self._rows = np.full(BUCKETS, -1, dtype=np.int16)
        for start, (first, last) in zip(self._starts, runs, strict=False):
            self._rows[first : last + 1] = np.arange(start, start + last - first + 1)
        # Ties of a large model may be more than int32 counts.
        self._usual = np.zeros(len(runs), dtype=np.int64)
        self._table = np.zeros((len(runs), 4), dtype=np.int32)
        self._table[:, 0] = [first << 16 for first, _ in runs]
        self._table[:, 1] = [(length << 16) - 1 for length in lengths]
        self._table[:, 2] = -1
        self._limits = np.full(-(-len(runs) // TOGETHER) * TOGETHER, np.inf, dtype=np.float32)
        tops = np.array([(last << 16) + 0xFFFF for _, last in runs], dtype=np.int32)
        self._limits[: len(runs)] = tops.view(np.float32)

    def scan(self, a: torch.Tensor, b: torch.Tensor | None) -> Piece:
        """A piece of a - b, in any float dtypes; b None: a itself, float32."""
        if b is not None and a.dtype == b.dtype == torch.bfloat16:
            words = (x.reshape(-1).view(torch.int16).numpy().view(np.uint16) for x in (a, b))
            return self._scanned(a.numel(), scan_bf16, *words)
        pair = (a, torch.zeros_like(a) if b is None else b)
        floats = (x.to(torch.float32).reshape(-1).numpy() for x in pair)
        return self._scanned(a.numel(), scan_float, *floats)

    def scan_products(self, a: Factors, b: Factors, start: int, stop: int) -> Piece:
        """Rows [start, stop) of the difference of two low-rank deltas."""
        given = (*operands(a, start, stop), *operands(b, start, stop))
        return self._scanned((stop - start) * a.down.shape[1], scan_products, *given)

    def _scanned(self, numel: int, loop: Any, *operands: Any) -> Piece:
        ends = np.array([0, NONE, 0], dtype=np.int64)
        sums = np.zeros((len(self._limits) + 1, 3))
        self._table[:, 3] = 0
        loop(*operands, self._table, self._limits, self._rows, self.counts, ends, sums)
        self._learn()
        return self._piece(numel, ends, sums[: len(self.runs) + 1])

    def by_bucket(self) -> Iterator[tuple[int, np.ndarray]]:
        """(bucket, counts by lower bits, int64) of every bucket of the runs."""
        for k, (first, last) in enumerate(self.runs):
            usual = int(self._table[k, 2])
            for row, bucket in enumerate(range(first, last + 1), self._starts[k]):
                counts = self.counts[row].astype(np.int64)
                if usual >> 16 == bucket:
                    counts[usual & 0xFFFF] += self._usual[k]
                yield bucket, counts

    def _learn(self) -> None:
        """Count those that were usual; the first piece that has any tells what is usual."""
        for k, (first, last) in enumerate(self.runs):
            if self._table[k, 2] >= 0:
                self._usual[k] += self._table[k, 3]
                continue
            found = self.counts[self._starts[k] : self._starts[k] + last - first + 1]
            if found.any():
                self._table[k, 2] = (first << 16) + int(found.argmax())

    def _piece(self, numel: int, ends: np.ndarray, sums: np.ndarray) -> Piece:
        extremes = Extremes(*ends.tolist())
        above = [Above() for _ in sums]
        if extremes.largest < INFINITY:
            above[0].add(numel, *sums[0, 1:])
            for found, row in zip(above[1:], sums[1:], strict=True):
                found.add(*row)
        return Piece(numel, extremes, above, float(sums[0, 0]))
