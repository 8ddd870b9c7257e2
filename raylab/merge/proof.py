"""Counts that prove a threshold by which a merge trims already.

Model: a threshold is the true one where fewer entries than are to stay lie above it, and at least
so many reach it (`raylab.merge.one_pass`).
Invariant: counts are exact, of any number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from raylab.merge.model_rows import ModelRows
from raylab.merge.steps import Entries
from raylab.reduce.histogram import bits_of


class Proof:
    """How many entries of a group lie above the threshold that each model is merged by."""

    def __init__(self, rows: ModelRows, thresholds: Mapping[int, float]) -> None:
        """Count nothing yet."""
        self._rows, self._local = rows, threading.local()
        self._next = {i: bits_of(t) + 1 for i, t in thresholds.items()}
        self._counted: list[dict[int, Entries]] = []

    def count(self, model: int, row: Entries) -> None:
        """Count the magnitudes of `row`, float32 (entries,), which is not trimmed yet."""
        first = self._next.get(model)
        if first is not None:
            self._rows.backend.tally(row, first, first, 0, self._counts()[model])

    def add(self, model: int, above: int) -> None:
        """Add what is counted already."""
        if model in self._next:
            self._counts()[model][1] += above

    def _counts(self) -> dict[int, Entries]:
        """Those of this thread: by model, how many are the next magnitude, and how many above."""
        if not hasattr(self._local, "counts"):
            self._local.counts = {i: self._rows.memory.zeros(2) for i in self._next}
            self._counted.append(self._local.counts)
        found: dict[int, Entries] = self._local.counts
        return found

    def above(self, model: int) -> int:
        """How many were counted."""
        to_host = self._rows.backend.to_host
        return sum(int(to_host(counts[model]).sum()) for counts in self._counted)
