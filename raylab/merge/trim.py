"""The exact thresholds that a merge trims its models at: over the whole model, or per tensor.

Model: the 31 bits of a float32 magnitude order like the magnitude. A pass over the task vectors
counts how many entries lie above a range of such bits, and how many at each step within it. The
range is all of them in steps of 2^16 (a bucket), then the bucket that holds the num_keep-th
largest entry, bit by bit: two passes, exact. A sample of rows foresees that bucket, and one pass is
enough. Where so many entries tie that the sample leaves one magnitude, as in bf16, the pass counts
this one alone. Where the sample was wrong, the two passes are made.
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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from raylab.merge.backend import CPU
from raylab.merge.inputs import MergePlan
from raylab.merge.model_rows import ModelRows
from raylab.merge.steps import Entries
from raylab.reduce.histogram import magnitude_of
from raylab.reduce.threshold import num_keep
from raylab.reduce.threshold_sampling import bucket_range, margin
from raylab.store.phase import THRESHOLDS, Tell, silent
from raylab.weights.row_tiles import Piece, Workers

_SHARE = 64
"""One of so many rows is in the sample."""
_PLACES = 512
"""About so many pieces have rows in it: around each of them the system reads some MB ahead."""
_WIDEST = 32
"""Buckets, each of 2^16 counts."""
_SMALL = 1 << 18
"""Fewer entries are counted twice rather than sampled."""


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


@dataclass(frozen=True, order=True)
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

Target = tuple[int, str]
"""A model, and which of its thresholds is asked for: lower or upper."""


class _Found(NamedTuple):
    """A threshold, and how many entries reach it."""

    threshold: float
    at_or_above: int


def trims_of(rows: ModelRows, workers: Workers, tell: Tell = silent) -> tuple[dict[str, Trim], ...]:
    """Each model's trims, where the method has any. Raises NonFiniteError."""
    plan = rows.plan
    trims: tuple[dict[str, Trim], ...] = tuple({} for _ in plan.models)
    if not plan.request.row.trims:
        return trims
    names = [name for name in plan.shapes if plan.models_of(name)]
    groups = [names] if plan.request.scope == "global" else [[name] for name in names]
    for place, group in enumerate(groups):
        counted = counter(tell, THRESHOLDS, len(names), place)
        for model, trim in trims_together(rows, group, workers, counted).items():
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


def _ignore(piece: Piece) -> None:
    del piece


def trims_together(
    rows: ModelRows,
    names: Sequence[str],
    workers: Workers,
    counted: Callable[[Piece], None] = _ignore,
    models: Collection[int] | None = None,
) -> dict[int, Trim]:
    """The trim of every model, or of `models` alone, over the tensors `names`; no other is read."""
    keeps, ranks = keeps_of(rows.plan, names), ranks_of(rows.plan, names)
    keeps = {i: keep for i, keep in keeps.items() if models is None or i in models}
    ranks = {target: rank for target, rank in ranks.items() if target[0] in keeps}
    found = _select(rows, names, ranks, workers, counted)
    trims = {}
    for i, keep in keeps.items():
        (lower, reach), upper = found[i, "lower"], found.get((i, "upper"))
        trims[i] = Trim(keep, lower, reach, upper.threshold if upper else None)
    return trims


def ranks_of(plan: MergePlan, names: Sequence[str]) -> dict[Target, int]:
    """The ranks of each model's thresholds among the magnitudes of `names`, 1 of the largest; a
    model has an upper one where outliers are dropped."""
    keeps, numels = keeps_of(plan, names), numels_of(plan, names)
    dropped = dict.fromkeys(keeps, 0)
    if plan.request.row.keeps == "middle":
        gammas = {i: Fraction(str(plan.settings[names[0]].own[i]["gamma"])) for i in keeps}
        dropped = {i: min(math.floor(gammas[i] * numels[i]), numels[i] - keeps[i]) for i in keeps}
    ranks = {(i, "lower"): keep + dropped[i] for i, keep in keeps.items()}
    return ranks | {(i, "upper"): count + 1 for i, count in dropped.items() if count}


def _select(
    rows: ModelRows,
    names: Sequence[str],
    ranks: Mapping[Target, int],
    workers: Workers,
    counted: Callable[[Piece], None],
) -> dict[Target, _Found]:
    """The magnitudes of the ranks, 1 of the largest, over the tensors `names`."""
    results: dict[Target, _Found] = {}
    foreseen = _foreseen(rows.plan, names, ranks, workers)
    ranges = {target: (foreseen[target] or [_EVERYTHING]).pop(0) for target in ranks}
    while ranges:
        found = _count(rows, rows.pieces(names), ranges, workers, counted)
        wanted = {}
        for target, within in ranges.items():
            rank, from_top = ranks[target], np.cumsum(found[target][::-1])
            if not from_top[0] < rank <= from_top[-1]:
                wanted[target] = (foreseen[target] or [_EVERYTHING]).pop(0)
                continue
            down = int(np.searchsorted(from_top, rank)) - 1
            if within.shift:
                wanted[target] = within.narrowed(within.size - 1 - down)
            else:
                threshold = magnitude_of(within.last - down)
                results[target] = _Found(threshold, int(from_top[down + 1]))
        ranges = wanted
    return results


def keeps_of(plan: MergePlan, names: Sequence[str]) -> dict[int, int]:
    """By model, how many entries are to stay of the tensors `names`, which are trimmed together."""
    # One density for all of `names`: they are one tensor, or the model has one density.
    densities = plan.settings[names[0]].densities
    numels = numels_of(plan, names)
    return {i: num_keep(densities[i], numel) for i, numel in numels.items() if numel}


def numels_of(plan: MergePlan, names: Sequence[str]) -> dict[int, int]:
    """By model, how many entries it has in the tensors `names`."""
    numels = dict.fromkeys(range(len(plan.models)), 0)
    for name in names:
        for model in plan.models_of(name):
            numels[model] += math.prod(plan.shapes[name])
    return numels


def _foreseen(
    plan: MergePlan, names: Sequence[str], ranks: Mapping[Target, int], workers: Workers
) -> dict[Target, list[_Range]]:
    """The ranges to look for each rank in, one after the other, foreseen by a sample of rows.

    The sample is small, so the CPU counts it, in its own pieces: the passes are the same for every
    device.
    """
    numels = numels_of(plan, names)
    if max(numels.values()) < _SMALL:
        return {target: [] for target in ranks}
    rows = ModelRows(plan, CPU)
    sample = _sample(rows.pieces(names))
    counts = _count(rows, sample, dict.fromkeys(ranks, _EVERYTHING), workers)
    shares = {target: rank / numels[target[0]] for target, rank in ranks.items()}
    ranges = {target: foreseen_range(counts[target], shares[target]) for target in ranks}
    guesses = {t: _most_likely(counts[t], shares[t]) for t, within in ranges.items() if within}
    tied = _count(rows, sample, guesses, workers) if guesses else {}
    for target, found in tied.items():
        size = int(counts[target].sum())
        at, above = found.tolist()
        first, last = margin(shares[target], size)
        if not (above < first and last <= above + at):
            del guesses[target]
    return {
        target: [within for within in (guesses.get(target), ranges[target]) if within]
        for target in ranks
    }


def _sample(pieces: Sequence[Piece]) -> list[Piece]:
    every = max(1, len(pieces) // _PLACES)
    share = max(1, _SHARE // every)
    return [(n, a, a + math.ceil((b - a) / share)) for n, a, b in pieces[::every]]


def _most_likely(counts: np.ndarray, share: float) -> _Range:
    """The magnitude that ties where the models are in bf16: the smallest of the bucket that holds
    the rank in the sample."""
    from_top = np.cumsum(counts[-2::-1])
    bucket = len(from_top) - 1 - int(np.searchsorted(from_top, share * int(from_top[-1])))
    magnitude = _EVERYTHING.narrowed(bucket).first
    return _Range(magnitude, magnitude, 0)


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
    ranges: Mapping[Target, _Range],
    workers: Workers,
    done: Callable[[Piece], None] = lambda piece: None,
) -> dict[Target, np.ndarray]:
    """For every target in `ranges`, int64: its model's entries at each step of its range, and at
    the end how many lie above it. Each thread has counts of its own, which stay on its device until
    the end."""
    local = threading.local()
    counted: list[dict[tuple[int, _Range], Entries]] = []
    wanted = sorted({(model, within) for (model, _), within in ranges.items()})

    def work(piece: Piece) -> None:
        memory, size = rows.memory, rows.size(piece)
        if not hasattr(local, "counts"):
            local.counts = {key: memory.zeros(key[1].size + 1) for key in wanted}
            counted.append(local.counts)
        asked = {model for model, _ in wanted}
        models = [model for model in rows.plan.models_of(piece[0]) if model in asked]
        non_finite = []
        for model in models:
            row = memory.buffer("row", (size,), "F32")
            non_finite.append(rows.fill(row, model, piece))
            for within in (within for i, within in wanted if i == model):
                bounds = within.first, within.last, within.shift
                rows.backend.tally(row, *bounds, local.counts[model, within])
        rows.check_finite(piece, models, memory.numbers(non_finite))

    workers.each(pieces, work, done)
    found = {
        key: np.sum([rows.backend.to_host(counts[key]) for counts in counted], axis=0)
        for key in wanted
    }
    return {(model, which): found[model, within] for (model, which), within in ranges.items()}
