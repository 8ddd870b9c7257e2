"""Counts that prove the thresholds by which a merge trims already.

Model: the magnitude of a rank, 1 of the largest, is a threshold where fewer magnitudes than the
rank lie above it, and at least so many reach it (`raylab.merge.one_pass`).
Invariant: counts are exact, of any number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from raylab.merge.compiled_blocks import ABOVE, ABOVE_UPPER, AT, AT_UPPER
from raylab.merge.model_rows import ModelRows
from raylab.merge.steps import Entries
from raylab.merge.trim import Target
from raylab.reduce.histogram import bits_of

_COLUMNS = {"lower": (AT, ABOVE), "upper": (AT_UPPER, ABOVE_UPPER)}


class Proof:
    """How many entries of a group are at, and above, each threshold that it is merged by."""

    def __init__(self, rows: ModelRows, thresholds: Mapping[Target, float]) -> None:
        """Count nothing yet."""
        self._rows, self._local = rows, threading.local()
        self._bits = {target: bits_of(threshold) for target, threshold in thresholds.items()}
        self._counted: list[dict[Target, Entries]] = []

    def count(self, model: int, row: Entries) -> None:
        """Count the magnitudes of `row`, float32 (entries,), which is not trimmed yet."""
        for target, bits in self._bits.items():
            if target[0] == model:
                self._rows.backend.tally(row, bits, bits, 0, self._counts()[target])

    def add(self, model: int, counts: Sequence[int]) -> None:
        """Add what `raylab.merge.compiled_blocks` counted of some rows of a model."""
        for target in self._bits:
            if target[0] == model:
                at, above = _COLUMNS[target[1]]
                self._counts()[target][0] += counts[at]
                self._counts()[target][1] += counts[above]

    def _counts(self) -> dict[Target, Entries]:
        """Those of this thread."""
        if not hasattr(self._local, "counts"):
            self._local.counts = {target: self._rows.memory.zeros(2) for target in self._bits}
            self._counted.append(self._local.counts)
        found: dict[Target, Entries] = self._local.counts
        return found

    def counts(self, target: Target) -> tuple[int, int]:
        """How many were above the threshold, and how many reached it."""
        parts = [self._rows.backend.to_host(counts[target]) for counts in self._counted]
        at, above = (sum(int(part[place]) for part in parts) for place in (0, 1))
        return above, above + at
