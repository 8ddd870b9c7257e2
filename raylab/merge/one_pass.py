"""Merges in one pass by thresholds that a sample foresees, and proves them on the way.

Model: entries that are trimmed together are a group: one tensor, or all (`raylab.merge.trim`). In
the differences of bfloat16 models many entries tie, so that a sample of a group's rows often says
which magnitudes its thresholds are: one, or two where outliers are dropped. The group is merged by
them, and each piece counts the entries at and above them. Where the counts do not prove them, the
thresholds are counted in full, and the group merged again. A group whose thresholds the sample does
not foresee is counted first. The sample of the next
group is taken while threads merge this one.
Invariant: output, thresholds and counts are those that `raylab.merge.trim.trims_of` leads to. The
sample decides alone how often models are read.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from raylab.merge.backend import CPU
from raylab.merge.merger import Merger
from raylab.merge.model_rows import ModelRows
from raylab.merge.proof import Proof
from raylab.merge.trim import (
    Target,
    Trim,
    counter,
    keeps_of,
    numels_of,
    ranks_of,
    trims_of,
    trims_together,
)
from raylab.store.phase import MERGING, Tell
from raylab.weights.checkpoint_writer import CheckpointWriter
from raylab.weights.row_tiles import Piece, Started, Workers, columns_of

_OF_A_TENSOR = (32, 1 << 17)
"""In how many places a tensor is looked at, and about how many of its entries, for each model."""
_OF_A_MODEL = (1024, 1 << 22)
"""The same of a whole model."""
_DEVIATIONS = 3
"""Standard deviations of the sample's share that a foreseen threshold stands."""
_IN_FLIGHT = 2
"""Groups that threads may be at: one ends while the next one begins."""

Samples = dict[int, np.ndarray]
"""By model, the magnitudes of some entries."""


@dataclass
class _Group:
    """Tensors that are trimmed together. changed: those that a model changes; by model, numels: how
    many entries it has, keeps: how many it keeps; ranks and foreseen: of its thresholds; merging:
    the pieces at work."""

    names: list[str]
    changed: list[str]
    numels: Mapping[int, int]
    keeps: Mapping[int, int]
    ranks: Mapping[Target, int]
    foreseen: dict[Target, float] = field(default_factory=dict)
    merging: Started[Piece, None] = field(default_factory=lambda: Started([], []))


class OnePass:
    """A merge that trims, tensor by tensor or as a whole."""

    def __init__(
        self,
        rows: ModelRows,
        merger: Merger,
        trims: Sequence[dict[str, Trim]],
        writer: CheckpointWriter,
        workers: Workers,
    ) -> None:
        """trims: the merger's, empty; they are filled on the way."""
        self._rows, self._merger, self._trims = rows, merger, trims
        self._writer, self._workers = writer, workers
        self._is_global = rows.plan.request.scope == "global"
        # The digest of what may be written again has to wait; a whole model's begins anew.
        self._write = merger.write if self._is_global else merger.write_draft

    def write(self, tell: Tell) -> None:
        """Merge or copy every tensor; see `Merger.write_all`. Raises NonFiniteError, StoreError."""
        plan = self._rows.plan
        done = counter(tell, MERGING, len(plan.shapes))
        files = self._writer.tensors_of_files()
        names = [name for file in files for name in file]
        groups = [names] if self._is_global else [[name] for name in names]
        at_work: deque[_Group] = deque()
        sample = self._sample(groups[0])
        try:
            for place, names in enumerate(groups):
                group = self._foreseen(names, sample.wait())
                sample = self._sample(groups[place + 1]) if place + 1 < len(groups) else sample
                unforeseen = {i for i in group.keeps if (i, "lower") not in group.foreseen}
                if unforeseen and self._is_global:
                    self._write_in_two_passes(tell)
                    return
                self._select(group, unforeseen)
                self._start(group)
                at_work.append(group)
                if len(at_work) > _IN_FLIGHT:
                    self._settle(at_work.popleft(), done)
            while at_work:
                self._settle(at_work.popleft(), done)
        finally:
            # No thread may write to a file that an error closes.
            sample.cancel()
            for group in at_work:
                group.merging.cancel()

    def _write_in_two_passes(self, tell: Tell) -> None:
        for mine, found in zip(self._trims, trims_of(self._rows, self._workers, tell), strict=True):
            mine.update(found)
        self._merger.write_all(self._workers, tell)

    def _sample(self, names: Sequence[str]) -> Started[Piece, Samples]:
        """Begin to read a sample of a group. Entries that are not finite are found later."""
        plan, rows = self._rows.plan, ModelRows(self._rows.plan, CPU)
        pieces = _sample_pieces(rows, [name for name in names if plan.models_of(name)])

        def read(piece: Piece) -> Samples:
            rows.will_need(piece)
            found, buffer = {}, np.empty(rows.size(piece), np.float32)
            for model in plan.models_of(piece[0]):
                rows.fill(buffer, model, piece)
                found[model] = np.abs(buffer)
            return found

        return self._workers.start(pieces, read)

    def _foreseen(self, names: list[str], samples: Sequence[Samples]) -> _Group:
        """The group of `names`; what the sample foresees is in the merger's trims."""
        plan = self._rows.plan
        changed = [name for name in names if plan.models_of(name)]
        keeps = keeps_of(plan, changed) if changed else {}
        ranks = ranks_of(plan, changed) if changed else {}
        group = _Group(names, changed, numels_of(plan, changed), keeps, ranks)
        for model, keep in group.keeps.items():
            parts = [found[model] for found in samples if model in found]
            magnitudes = np.concatenate([*parts, np.empty(0, np.float32)])
            found = {
                target: foreseen_threshold(magnitudes, rank, group.numels[model])
                for target, rank in ranks.items()
                if target[0] == model
            }
            known = {target: each for target, each in found.items() if each is not None}
            if len(known) == len(found):
                group.foreseen |= known
                self._put(group, model, _trim(model, keep, known, 0))
        return group

    def _start(self, group: _Group) -> None:
        if group.foreseen:
            proof = Proof(self._rows, group.foreseen)
            self._merger.proofs.update(dict.fromkeys(group.names, proof))
        pieces = self._rows.pieces(group.names)
        group.merging = self._workers.start(pieces, self._rows.reading_ahead(pieces, self._write))

    def _settle(self, group: _Group, done: Callable[[Piece], None]) -> None:
        """Wait for a group, and merge it again where a threshold was not the true one."""
        group.merging.wait(done)
        wrong = set()
        for model, keep in group.keeps.items():
            known = {target: each for target, each in group.foreseen.items() if target[0] == model}
            if not known:
                continue
            proof = self._merger.proofs[self._names(group, model)[0]]
            counts = {target: proof.counts(target) for target in known}
            if all(above < group.ranks[t] <= reach for t, (above, reach) in counts.items()):
                _, reach = counts[model, "lower"]
                self._put(group, model, _trim(model, keep, known, reach))
            else:
                wrong.add(model)
        for name in group.names:
            self._merger.proofs.pop(name, None)
        if wrong:
            self._select(group, wrong)
            self._again(group)
        if not self._is_global:
            for name in group.names:
                self._writer.settle(name)

    def _again(self, group: _Group) -> None:
        for key in itertools.product(group.keeps, group.names):
            self._merger.kept.pop(key, None)
        if self._is_global:
            self._writer.restart()
        self._workers.each(self._rows.pieces(group.names), self._write)

    def _select(self, group: _Group, models: Collection[int]) -> None:
        """Count the thresholds of `models`, and of no other."""
        if models:
            found = trims_together(self._rows, group.changed, self._workers, models=models)
            for model, trim in found.items():
                self._put(group, model, trim)

    def _put(self, group: _Group, model: int, trim: Trim) -> None:
        self._trims[model].update(dict.fromkeys(self._names(group, model), trim))

    def _names(self, group: _Group, model: int) -> list[str]:
        return [name for name in group.changed if model in self._rows.plan.models_of(name)]


def _trim(model: int, keep: int, thresholds: Mapping[Target, float], at_or_above: int) -> Trim:
    upper = thresholds.get((model, "upper"))
    return Trim(keep, thresholds[model, "lower"], at_or_above, upper)


def _sample_pieces(rows: ModelRows, names: Sequence[str]) -> list[Piece]:
    """Some rows in places that lie evenly in `names`; all rows where these are few."""
    shapes = rows.plan.shapes
    places, most = _OF_A_TENSOR if len(names) == 1 else _OF_A_MODEL
    numel = sum(math.prod(shapes[name]) for name in names)
    if numel <= most:
        return rows.pieces(names)
    found, every, before = [], numel / places, 0
    at = every / 2
    for name in names:
        columns, size = columns_of(shapes[name]), math.prod(shapes[name])
        wanted = min(size // columns, max(1, most // places // columns))
        last = size // columns - wanted
        starts = []
        while at < before + size:
            starts.append(min(last, int(at - before) // columns))
            at += every
        found += [(name, start, start + wanted) for start in dict.fromkeys(starts)]
        before += size
    return found


def foreseen_threshold(magnitudes: np.ndarray, keep: int, numel: int) -> float | None:
    """The magnitude of rank `keep` of `numel`, 1 of the largest, where a sample of these says it.

    magnitudes: float32 (entries,), the sample. None where ranks within three standard deviations
    of the sample have several magnitudes.
    """
    size, share = magnitudes.size, keep / numel
    if not size:
        return None
    deviation = math.sqrt(size * share * (1 - share))
    rank, slack = (keep, 0.0) if size == numel else (size * share, _DEVIATIONS * deviation + 1)
    low = max(0, size - math.ceil(rank + slack))
    high = min(size - 1, size - math.floor(rank - slack))
    parted = np.partition(magnitudes, sorted({low, high}))
    is_same = parted[low] == parted[high] and math.isfinite(parted[high])
    return float(parted[high]) if is_same else None


def can_foresee(rows: ModelRows) -> bool:
    """Whether the merge trims, and nothing before it needs to know the thresholds."""
    return rows.plan.request.row.trims and rows.plan.request.rescale != "l1"
