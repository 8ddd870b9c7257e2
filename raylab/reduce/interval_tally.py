"""One thread's exact sums of a comparison where its thresholds were foreseen: no histogram.

Model: an interval is one or more neighbouring buckets (see `raylab.reduce.histogram`) that were
foreseen to hold a threshold. `IntervalTally` takes differences through the compiled loops of
`raylab.reduce.interval_loops`, which sum the entries above each interval and count those inside
by their magnitude. That is enough for norms and thresholds, though not for the curve, and costs a
quarter of a histogram. The magnitude that most entries of an interval have (bf16 models have few
magnitudes) is compared for, not counted one by one; the first tile shows which it is.
Invariant: sums and counts are the integers that a histogram gives, in the units of `Norms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raylab.reduce.block_sums import UNITS
from raylab.reduce.entries import Entries, as_array, widened
from raylab.reduce.histogram import (
    BUCKETS,
    INFINITY,
    NONE,
    Candidates,
    Extremes,
    Interval,
    Magnitudes,
    Norms,
    intervals_of,
    magnitude_of,
)
from raylab.reduce.interval_loops import add_bf16, add_float, add_products
from raylab.reduce.lora_product import Terms, operands_of_two
from raylab.reduce.squares import by_tile


class IntervalTally:
    """One thread's sums and counts of one comparison. Not to be shared."""

    def __init__(self, buckets: Sequence[int], tolerance: int = 0) -> None:
        """Nothing is counted yet in `buckets`; entries whose magnitude bits are above `tolerance`
        moved."""
        self.buckets = tuple(buckets)
        self._tolerance = np.int32(tolerance)
        self._intervals = intervals_of(buckets)
        lengths = [each.last - each.first + 1 for each in self._intervals]
        self._starts = np.cumsum([0, *lengths])
        self._counts = np.zeros((int(self._starts[-1]), 1 << 16), dtype=np.int32)
        self._rows = np.full(BUCKETS, -1, dtype=np.int16)
        for start, each in zip(self._starts, self._intervals, strict=False):
            self._rows[each.first : each.last + 1] = np.arange(
                start, start + each.last - each.first + 1
            )
        # Ties of a large model may be more than int32 counts.
        self._usual = np.zeros(len(lengths), dtype=np.int64)
        self._table = np.zeros((len(lengths), 5), dtype=np.int64)
        self._table[:, 0] = [each.first << 16 for each in self._intervals]
        self._table[:, 1] = [(length << 16) - 1 for length in lengths]
        self._table[:, 2] = -1
        tops = np.array([(each.last << 16) + 0xFFFF for each in self._intervals], dtype=np.int32)
        self._limits = tops.view(np.float32)
        self._sums = np.zeros((len(lengths) + 1, UNITS, 3), dtype=np.int64)
        self._ends = np.array([0, NONE, 0, 0], dtype=np.int64)
        self._numel = 0

    def add(self, values: Entries) -> None:
        """Take in float32 `values`."""
        rows = as_array(values)
        self.add_difference(rows, np.zeros_like(rows))

    def add_difference(
        self, a: Entries, b: Entries, heights: Sequence[int] = ()
    ) -> list[float] | None:
        """Take in float32(a) - float32(b), of one shape in any float dtypes, in tiles of so many
        rows. The squares of each tile of `b` where both are bf16, else None."""
        left, right = as_array(a), as_array(b)
        if left.dtype == right.dtype == np.uint16:
            tiles = (by_tile(x, heights or [len(x)]) for x in (left, right))
            flat = (map(np.ravel, pair) for pair in zip(*tiles, strict=True))
            return [self._take(x.size, add_bf16, x, y) for x, y in flat]
        left, right = left.reshape(-1), right.reshape(-1)
        self._take(left.size, add_float, widened(left), widened(right))
        return None

    def add_products(self, a: Terms, b: Terms, start: int, stop: int) -> None:
        """Take in rows [start, stop) of the difference of two low-rank deltas."""
        size, given = operands_of_two(a, b, start, stop)
        self._take(size, add_products, *given)

    def _take(self, numel: int, loop: Any, *operands: Any) -> Any:
        tables = (self._table, self._limits, self._rows, self._counts)
        self._numel += numel
        return loop(*operands, *tables, self._ends, self._tolerance, self._sums)

    def flush(self, into: Magnitudes) -> Extremes:
        """Add the sums since the last call to `into`; the counts inside the intervals are kept."""
        extremes = Extremes(*self._ends.tolist())
        linf = magnitude_of(extremes.largest) if extremes.largest < INFINITY else 0.0
        whole, *above = _exact(self._sums)
        norms = Norms(self._numel, extremes.nonzero, linf, *whole, extremes.moved)
        found = [
            Interval(each.first, each.last, entries, *sums)
            for each, entries, sums in zip(
                self._intervals, self._table[:, 4].tolist(), above, strict=True
            )
        ]
        self._learn()
        self._sums[:] = 0
        self._table[:, 3:] = 0
        self._ends[:] = (0, NONE, 0, 0)
        self._numel = 0
        into.merge(Magnitudes(norms, extremes, intervals=found))
        return extremes

    def _learn(self) -> None:
        """Count the usual magnitude of each interval; the first counts show which it is."""
        for k, each in enumerate(self._intervals):
            if self._table[k, 2] >= 0:
                self._usual[k] += self._table[k, 3]
                continue
            found = self._counts[self._starts[k] : self._starts[k + 1]]
            if found.any():
                self._table[k, 2] = (each.first << 16) + int(found.argmax())

    def candidates(self, buckets: Sequence[int]) -> Candidates:
        """The magnitudes counted in `buckets`, all of which were foreseen."""
        usual = dict(zip(self._table[:, 2].tolist(), self._usual.tolist(), strict=True))
        found: Candidates = {}
        for bucket in buckets:
            counts = self._counts[self._rows[bucket]].astype(np.int64)
            for bits, entries in usual.items():
                if bits >> 16 == bucket:
                    counts[bits & 0xFFFF] += entries
            low = np.flatnonzero(counts)
            found[bucket] = (low, counts[low])
        return found


def _exact(sums: np.ndarray) -> list[tuple[int, int]]:
    """(sum of magnitudes in 2^-149, sum of squares in 2^-298) of each table of sums by unit."""
    units = np.flatnonzero(sums.any(axis=(0, 2)))
    found = []
    for table in sums[:, units].tolist():
        first = second = 0
        for unit, (l1, high, low) in zip(units.tolist(), table, strict=True):
            first += l1 << unit
            second += ((high << 32) + low) << (2 * unit)
        found.append((first, second))
    return found
