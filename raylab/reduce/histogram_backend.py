"""The tallies of the CPU: compiled loops that add differences to exact sums.

Model: a tally belongs to one thread and one comparison. It takes differences in, and adds their
sums to those of a tensor. Where no histogram is asked, it sums intervals. A GPU has its own sums:
`raylab.reduce.gpu`.
Invariant: all tallies give the same integers for the same values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from raylab.reduce.entries import Entries
from raylab.reduce.histogram import (
    Candidates,
    Extremes,
    Magnitudes,
)
from raylab.reduce.histogram_numba import CompiledTally, Table
from raylab.reduce.interval_tally import IntervalTally
from raylab.reduce.lora_product import Terms


class Counts(Protocol):
    """What was counted of one comparison."""

    buckets: tuple[int, ...]
    """The buckets whose magnitudes are counted."""

    def candidates(self, buckets: Sequence[int]) -> Candidates:
        """All magnitudes that were counted in `buckets`."""


class Tally(Counts, Protocol):
    """One thread's sums of one comparison, until they are flushed."""

    def add(self, values: Entries) -> None:
        """Take in float32 values."""

    def add_difference(
        self, a: Entries, b: Entries, heights: Sequence[int] = ()
    ) -> list[float] | None:
        """Take in float32(a) - float32(b), of one shape in any float dtypes, in tiles of so many
        rows. The squares of each tile of `b` where they come at no cost, else None."""

    def add_products(self, a: Terms, b: Terms, start: int, stop: int) -> None:
        """Take in rows [start, stop) of the difference of two low-rank deltas."""

    def flush(self, into: Magnitudes) -> Extremes:
        """Add the sums since the last call to `into`; returns the extremes of the same entries."""


def tallies_for(
    buckets: Mapping[str, Sequence[int]], histograms: bool, tolerance: int = 0
) -> dict[str, Tally]:
    """An empty tally for each comparison, which counts in `buckets`; entries whose magnitude bits
    are above `tolerance` moved."""
    if not histograms:
        return {pair: IntervalTally(wanted, tolerance) for pair, wanted in buckets.items()}
    table = Table()
    return {pair: CompiledTally(wanted, table, tolerance) for pair, wanted in buckets.items()}
