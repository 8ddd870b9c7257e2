"""The exact thresholds that a merge trims its models at: over the whole model, or per tensor.

Model: the 31 bits of a float32 magnitude order like the magnitude. A pass over the task vectors
counts how many entries lie above a range of such bits, and how many at each step within it. The
range is all of them in steps of 2^16 (a bucket), then the bucket that holds the num_keep-th
largest entry, bit by bit: two passes, exact. Where a merge trims the whole model, a sample of
rows foresees that bucket, and one pass is enough; where the sample was wrong, the two are made.
`raylab.reduce.passes` finds the same thresholds, with norms and shares; leaving these out halves
the time of the pass.
Model Breadcrumbs (Davari and Belilovsky 2023, arXiv:2312.06795) also drops outliers: of numel
entries the floor(gamma * numel) largest, or fewer where density + gamma exceeds 1. It keeps the
next num_keep. `upper` is the largest magnitude that stays. The paper trims by layer; the scope
global is raylab's own. Entries that tie at either threshold stay.
Invariant: num_keep = max(1, floor(density * numel)), where numel counts the entries that are
trimmed together: all tensors that the model changes (scope global: TIES-Merging as its paper
defines it, Yadav et al. 2023, arXiv:2306.01708), or one tensor (scope tensor: as mergekit and PEFT
trim). Counts are exact for any number of threads. The same rows are trimmed later.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from raylab.merge.backend import CPU
from raylab.merge.inputs import MergePlan
from raylab.merge.model_rows import ModelRows
from raylab.merge.steps import Entries
from raylab.reduce.histogram import magnitude_of
from raylab.reduce.threshold import num_keep
from raylab.reduce.threshold_sampling import bucket_range
from raylab.store.phase import THRESHOLDS, Tell, silent
from raylab.weights.row_tiles import Piece, Workers

_SHARE = 64
"""One of so many rows is in the sample."""
_PLACES = 512
"""About so many pieces have rows in it: around each of them the system reads some MB ahead."""
_WIDEST = 32
"""Buckets, each of 2^16 counts."""


@dataclass(frozen=True)
class Trim:
    """The threshold of the entries that are trimmed together: `num_keep` of them are to stay,
    `threshold` is the smallest magnitude among these, and `at_or_above` entries reach it."""

    num_keep: int
    threshold: float
    at_or_above: int
    upper: float | None = None
    """Entries above it are dropped; None: no entry is."""


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


def trims_of(rows: ModelRows, workers: Workers, tell: Tell = silent) -> tuple[Trims, ...]:
    """Each model's trims, where the method has any; `tell` hears of every tensor.

    Raises NonFiniteError.
    """
    plan = rows.plan
    trims: tuple[dict[str, Trim], ...] = tuple({} for _ in plan.models)
    if not plan.request.row.trims:
        return trims
    drops_outliers = plan.request.row.keeps == "middle"
    names = [name for name in plan.shapes if plan.models_of(name)]
    is_global = plan.request.scope == "global"
    for place, group in enumerate([names] if is_global else [[name] for name in names]):
        counted = counter(tell, THRESHOLDS, len(names), place)
        keeps = _keeps(plan, group)
        start = _foreseen(plan, group, workers) if is_global and not drops_outliers else {}
        if drops_outliers:
            found = _without_outliers(rows, group, keeps, workers, counted)
        else:
            found = _select(rows, group, keeps, start, workers, counted)
        for model, trim in found.items():
            mine = [name for name in group if model in plan.models_of(name)]
            trims[model].update(dict.fromkeys(mine, trim))
    return trims


def counter(tell: Tell, name: str, of: int, before: int = 0) -> Callable[[Piece], None]:
    """Tells of the tensors whose pieces are done, in their order; `before` were counted before."""
    seen: set[str] = set()

    def done(piece: Piece) -> None:
        seen.add(piece[0])
        tell(name, before + len(seen), of)

    return done


def _without_outliers(
    rows: ModelRows,
    names: Sequence[str],
    keeps: Mapping[int, int],
    workers: Workers,
    counted: Callable[[Piece], None],
) -> dict[int, Trim]:
    """The trims with both thresholds; see `_select`."""
    numels = _numels(rows.plan, names)
    gammas = {i: Fraction(str(rows.plan.settings[names[0]].own[i]["gamma"])) for i in keeps}
    dropped = {i: min(math.floor(gammas[i] * numels[i]), numels[i] - keeps[i]) for i in keeps}
    largest = {i: count + 1 for i, count in dropped.items()}
    reach = {i: keeps[i] + count for i, count in dropped.items()}
    upper = _select(rows, names, largest, {}, workers, counted)
    lower = _select(rows, names, reach, {}, workers, counted)
    return {
        i: replace(lower[i], num_keep=keeps[i], upper=upper[i].threshold if dropped[i] else None)
        for i in keeps
    }


def _select(
    rows: ModelRows,
    names: Sequence[str],
    keeps: Mapping[int, int],
    start: Mapping[int, _Range],
    workers: Workers,
    counted: Callable[[Piece], None],
) -> dict[int, Trim]:
    """The trim over the tensors `names` of every model in `keeps`, which says how many entries it
    keeps; the search for a model's threshold starts in the range `start`."""
    trims: dict[int, Trim] = {}
    ranges = {model: start.get(model, _EVERYTHING) for model in keeps}
    while ranges:
        found = _count(rows, rows.pieces(names), ranges, workers, counted)
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
    # One density for all of `names`: they are one tensor, or the model has one density.
    densities = plan.settings[names[0]].densities
    numels = _numels(plan, names)
    return {i: num_keep(densities[i], numel) for i, numel in numels.items() if numel}


def _numels(plan: MergePlan, names: Sequence[str]) -> dict[int, int]:
    numels = dict.fromkeys(range(len(plan.models)), 0)
    for name in names:
        for model in plan.models_of(name):
            numels[model] += math.prod(plan.shapes[name])
    return numels


def _foreseen(plan: MergePlan, names: Sequence[str], workers: Workers) -> dict[int, _Range]:
    """The range of each threshold, foreseen by a sample of rows; a model may be missing.

    The sample is small, so the CPU counts it, in its own pieces: the passes are the same for every
    device.
    """
    rows = ModelRows(plan, CPU)
    ranges = dict.fromkeys(_keeps(plan, names), _EVERYTHING)
    pieces = rows.pieces(names)
    every = max(1, len(pieces) // _PLACES)
    share = max(1, _SHARE // every)
    sample = [(n, a, a + math.ceil((b - a) / share)) for n, a, b in pieces[::every]]
    found = _count(rows, sample, ranges, workers)
    densities = plan.settings[names[0]].densities
    foreseen = {i: foreseen_range(counts, densities[i]) for i, counts in found.items()}
    return {model: within for model, within in foreseen.items() if within}


def foreseen_range(counts: np.ndarray, density: float) -> _Range | None:
    """The range of magnitudes that holds the threshold, given how many entries of a sample each
    bucket holds; None where that is none, or the range is too wide to count each magnitude."""
    if not counts[:-1].any():
        return None
    low, high = bucket_range(counts[:-1], density)
    if high - low >= _WIDEST:
        return None
    return _Range(_EVERYTHING.narrowed(low).first, _EVERYTHING.narrowed(high).last, 0)


def _count(
    rows: ModelRows,
    pieces: Sequence[Piece],
    ranges: Mapping[int, _Range],
    workers: Workers,
    done: Callable[[Piece], None] = lambda piece: None,
) -> dict[int, np.ndarray]:
    """For every model in `ranges`, int64: entries at each step of its range, and at the end how
    many lie above it. Each thread has counts of its own, which stay on its device until the end."""
    local = threading.local()
    counted: list[dict[int, Entries]] = []

    def work(piece: Piece) -> None:
        memory, size = rows.memory, rows.size(piece)
        if not hasattr(local, "counts"):
            local.counts = {i: memory.zeros(w.size + 1) for i, w in ranges.items()}
            counted.append(local.counts)
        models = [model for model in rows.plan.models_of(piece[0]) if model in ranges]
        non_finite = []
        for model in models:
            row, within = memory.buffer("row", (size,), "F32"), ranges[model]
            non_finite.append(rows.fill(row, model, piece))
            counts = local.counts[model]
            rows.backend.tally(row, within.first, within.last, within.shift, counts)
        rows.check_finite(piece, models, memory.numbers(non_finite))

    workers.each(pieces, work, done)
    return {
        model: np.sum([rows.backend.to_host(counts[model]) for counts in counted], axis=0)
        for model in ranges
    }
