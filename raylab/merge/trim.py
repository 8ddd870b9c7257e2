"""The exact thresholds that a merge trims its models at: over the whole model, or per tensor.

Model: the 31 bits of a float32 magnitude order like the magnitude. A pass over the task vectors
counts how many entries lie above a range of such bits, and how many at each step within it. The
range is all of them in steps of 2^16 (a bucket), then the bucket that holds the num_keep-th
largest entry, bit by bit: two passes, exact. Where a merge trims the whole model, a sample of
rows foresees that bucket, and one pass is enough; where the sample was wrong, the two are made.
`raylab.reduce.passes` finds the same thresholds, with norms and shares; leaving these out halves
the time of the pass.
Invariant: num_keep = max(1, floor(density * numel)), where numel counts the entries that are
trimmed together: all tensors that the model changes (scope global: TIES-Merging as its paper
defines it, Yadav et al. 2023, arXiv:2306.01708), or one tensor (scope tensor: as mergekit and PEFT
trim). Counts are exact for any number of threads. The same rows are trimmed later.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raylab.merge.inputs import MergePlan, ModelRows
from raylab.merge.magnitude_counts import tally
from raylab.reduce.histogram import magnitude_of
from raylab.reduce.threshold import num_keep
from raylab.reduce.threshold_sampling import bucket_range
from raylab.weights.row_tiles import Piece, in_threads

_SHARE = 64
"""One of so many rows of every piece is in the sample."""
_WIDEST = 32
"""Buckets, each of 2^16 counts."""


@dataclass(frozen=True)
class Trim:
    """The threshold of the entries that are trimmed together: `num_keep` of them are to stay,
    `threshold` is the smallest magnitude among these, and `at_or_above` entries reach it."""

    num_keep: int
    threshold: float
    at_or_above: int


Trims = Mapping[str, Trim]
"""By tensor."""


@dataclass(frozen=True)
class _Range:
    """Magnitude bits from `first` to `last`, in steps of 2^shift."""

    first: int
    last: int
    shift: int

    @property
    def size(self) -> int:
        return ((self.last - self.first) >> self.shift) + 1

    def narrowed(self, step: int) -> _Range:
        """One step of this range, bit by bit."""
        first = self.first + (step << self.shift)
        return _Range(first, first + (1 << self.shift) - 1, 0)


_EVERYTHING = _Range(0, 0x7FFFFFFF, 16)


def trims_of(plan: MergePlan, threads: int) -> tuple[Trims, ...]:
    """Each model's trims, where the method has any. Raises NonFiniteError."""
    trims: tuple[dict[str, Trim], ...] = tuple({} for _ in plan.models)
    if plan.request.row.keeps != "largest":
        return trims
    names = [name for name in plan.shapes if plan.models_of(name)]
    is_global = plan.request.scope == "global"
    for group in [names] if is_global else [[name] for name in names]:
        start = _foreseen(plan, group, threads) if is_global else {}
        for model, trim in _select(plan, group, start, threads).items():
            mine = [name for name in group if model in plan.models_of(name)]
            trims[model].update(dict.fromkeys(mine, trim))
    return trims


def _select(
    plan: MergePlan, names: Sequence[str], start: Mapping[int, _Range], threads: int
) -> dict[int, Trim]:
    """The trim over the tensors `names` of every model that changes any; the search for a model's
    threshold starts in the range `start`."""
    keeps = _keeps(plan, names)
    trims: dict[int, Trim] = {}
    ranges = {model: start.get(model, _EVERYTHING) for model in keeps}
    while ranges:
        found = _count(plan, plan.pieces(names), ranges, threads)
        wanted = {}
        for model, within in ranges.items():
            keep, from_top = keeps[model], np.cumsum(found[model][::-1])
            if not from_top[0] < keep <= from_top[-1]:
                wanted[model] = _EVERYTHING
                continue
            down = int(np.searchsorted(from_top, keep)) - 1
            if within.shift:
                wanted[model] = within.narrowed(within.size - 1 - down)
            else:
                threshold = magnitude_of(within.last - down)
                trims[model] = Trim(keep, threshold, int(from_top[down + 1]))
        ranges = wanted
    return trims


def _keeps(plan: MergePlan, names: Sequence[str]) -> dict[int, int]:
    numels = dict.fromkeys(range(len(plan.models)), 0)
    for name in names:
        for model in plan.models_of(name):
            numels[model] += math.prod(plan.shapes[name])
    inputs = plan.request.inputs
    return {i: num_keep(inputs[i].density, numel) for i, numel in numels.items() if numel}


def _foreseen(plan: MergePlan, names: Sequence[str], threads: int) -> dict[int, _Range]:
    """The range of each threshold, foreseen by a sample of rows; a model may be missing."""
    ranges = dict.fromkeys(_keeps(plan, names), _EVERYTHING)
    sample = [(n, a, a + math.ceil((b - a) / _SHARE)) for n, a, b in plan.pieces(names)]
    found = _count(plan, sample, ranges, threads)
    densities = {model: plan.request.inputs[model].density for model in found}
    foreseen = {model: foreseen_range(counts, densities[model]) for model, counts in found.items()}
    return {model: within for model, within in foreseen.items() if within}


def foreseen_range(counts: np.ndarray, density: float) -> _Range | None:
    """The range of magnitudes that holds the threshold, given how many entries of a sample each
    bucket holds; None where the range is too wide to count each magnitude."""
    low, high = bucket_range(counts[:-1], density)
    if high - low >= _WIDEST:
        return None
    return _Range(_EVERYTHING.narrowed(low).first, _EVERYTHING.narrowed(high).last, 0)


def _count(
    plan: MergePlan, pieces: Sequence[Piece], ranges: Mapping[int, _Range], threads: int
) -> dict[int, np.ndarray]:
    """For every model in `ranges`, int64: entries at each step of its range, and at the end how
    many lie above it."""
    rows, local = ModelRows(plan), threading.local()
    counted: list[dict[int, np.ndarray]] = []

    def work(piece: Piece) -> None:
        if not hasattr(local, "counts"):
            local.counts = {i: np.zeros(w.size + 1, np.int64) for i, w in ranges.items()}
            counted.append(local.counts)
        size = rows.size(piece)
        for model in plan.models_of(piece[0]):
            if model in ranges:
                row = rows.fill(rows.buffer("row", (size,), torch.float32), model, piece)
                within = ranges[model]
                tally(row, within.first, within.last, within.shift, local.counts[model])

    in_threads(pieces, work, threads)
    return {model: np.sum([counts[model] for counts in counted], axis=0) for model in ranges}
