"""All comparisons over one base model: plan the shards, run the passes, make the rows.

Model: `reduce_pairs` hands calls to an executor, which may be a loop in this process or a queue
over Ray actors, and adds up what comes back. First a sample foresees the boundary buckets, then
one pass measures, then the candidates of the boundary buckets are asked for; where models are
related to each other, another pass takes their products.
Invariant: rows come in the order of comparisons, levels and keys; they do not depend on the
executor, the order of answers or the number of shards. A comparison whose two sides touch
nothing has a row of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from raylab.errors import ModelError
from raylab.plan.shards import Shape, Shard, plan_shards
from raylab.reduce.details import Details, detail_rows
from raylab.reduce.foresight import foresee
from raylab.reduce.kernels import Norms, add_candidates, bits_of
from raylab.reduce.relations import Relation, relation_rows
from raylab.reduce.rows import curve_rows, density_rows, norm_rows
from raylab.reduce.shard import Measured, ShardJob
from raylab.reduce.threshold import AtDensity, at_density, boundary_buckets
from raylab.reduce.tile import BASE, Models, Pair
from raylab.reduce.views import DELTA, Place, Side, View
from raylab.spec.study import Quantization
from raylab.store.tensors import Checkpoint

SHARDS = 32
_FORESEEN_BYTES = 1 << 28
_BUCKET_BYTES = 1 << 18


class Call(NamedTuple):
    """A method of ShardJob and its arguments. Calls of one home want the same actor."""

    method: str
    arguments: tuple[Any, ...]
    home: int = 0


@dataclass(frozen=True)
class Job:
    """What every actor opens. `id` names it for good; it holds whatever decides the results."""

    places: Mapping[str, Place]
    pairs: tuple[Pair, ...]
    base: Path | None = None
    view: View = DELTA
    shapes: Mapping[str, Shape] | None = None
    threads: int = 1
    vectors: tuple[str, ...] = ()
    """Models whose task vectors are measured as well, related to each other, and detailed."""
    quantization: Quantization | None = None
    """How the base model was held while they were trained; for the audit."""
    count_untouched: bool = False
    skip_non_finite: bool = False
    id: str = ""

    def models(self) -> Models:
        """Open every model. Raises ModelError."""
        base = Checkpoint(self.base) if self.base else None
        sides = {key: Side(place, self.view, base) for key, place in self.places.items()}
        weights = Side(Place(checkpoint=self.base), DELTA) if self.base else None
        if weights and self.view != DELTA:
            weights = Side(Place(), self.view, base)
        return Models(
            sides=sides,
            shapes=compared_shapes(sides) if self.shapes is None else self.shapes,
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            base=weights,
            weights=base,
            trained={key: self.places[key] for key in self.vectors},
            quantization=self.quantization,
            skip_non_finite=self.skip_non_finite,
            count_untouched=self.count_untouched,
        )

    @property
    def measured_pairs(self) -> tuple[Pair, ...]:
        """The pairs, and each task vector against the base model."""
        return (*self.pairs, *(Pair(task_vector_name(key), key, BASE) for key in self.vectors))

    def open(self) -> ShardJob:
        """Open every model for reducing shards."""
        return ShardJob(self.models(), self.measured_pairs, self.threads)


Executor = Callable[[Job, Sequence[Call]], Iterator[tuple[int, Any]]]
"""Gives (index of the call, result), in any order."""


class InProcess:
    """The executor without Ray: one call after another, the models opened once."""

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._job: Job | None = None

    def __call__(self, job: Job, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        """Each call's result, in order."""
        if self._job is not job:
            self._job, self._opened = job, job.open()
        for index, call in enumerate(calls):
            yield index, getattr(self._opened, call.method)(*call.arguments)


@dataclass
class Tables:
    """Rows of the tables that a reduction fills, and the bytes of weights that it read."""

    norms: list[dict[str, Any]] = field(default_factory=list)
    densities: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    spectra: list[dict[str, Any]] = field(default_factory=list)
    chains: list[dict[str, Any]] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)
    bytes_read: int = 0
    bytes_read_again: int = 0

    def extend(self, other: Tables) -> None:
        """Append the rows of another reduction."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


@dataclass
class Reduced:
    """Everything measured of one job, before rows are made of it."""

    total: Measured
    kept: dict[str, list[AtDensity]]
    relation: Relation | None
    bytes_read_again: int
    passes: int = 1
    """How often the models were gone through for norms and thresholds."""


def reduce_pairs(
    job: Job, densities: Sequence[float], execute: Executor, shards: int = SHARDS
) -> Tables:
    """The rows of norms, densities, curve and pairs of `job`."""
    found = reduce_job(job, densities, execute, shards)
    common = {"view": job.view.name, "universe": universe_of(job)}
    rows = Tables(bytes_read=found.total.bytes_read, bytes_read_again=found.bytes_read_again)
    for pair in job.pairs:
        reference = reference_of(job, pair)
        rows.norms += norm_rows(pair, found.total, reference, common)
        rows.densities += density_rows(pair, found.kept.get(pair.name, []), common)
        rows.curve += curve_rows(pair, found.total, common)
    if found.relation:
        relations = relation_rows(job.vectors, found.relation, densities)
        rows.pairs += [common | row for row in relations]
    return rows


def detail_models(job: Job, execute: Executor, shards: int = SHARDS) -> Tables:
    """The rows of spectra, chains and audit of the models of `job.vectors`."""
    planned = _largest_first(plan_shards(job.models().shapes, shards))
    total = Details()
    for part in _ordered(job, execute, [_call("detail", shard) for shard in planned]):
        total.merge(part)
    rows = detail_rows(total)
    return Tables(spectra=rows["spectra"], chains=rows["chains"], audit=rows["audit"])


def task_vector_name(key: str) -> str:
    """How the comparison of a model with its base model is called where only `vectors` asks."""
    return f"the task vector of {key}"


def universe_of(job: Job) -> str:
    """`compared` or, where untouched parameters count as zeros, `model`."""
    return "model" if job.count_untouched else "compared"


def reference_of(job: Job, pair: Pair) -> str:
    """The key of the weights that relative norms of `pair` are relative to."""
    place = job.places.get(pair.b, Place())
    return pair.b if place.checkpoint else BASE


def reduce_job(
    job: Job, densities: Sequence[float], execute: Executor, shards: int = SHARDS
) -> Reduced:
    """Run every pass of `job`."""
    planned = _largest_first(plan_shards(job.models().shapes, shards))
    foreseen = _foreseen(job, _sampled(job, planned, execute), densities)
    total = Measured()
    for part in _ordered(job, execute, [_call("measure", s, foreseen) for s in planned]):
        total.merge(part)
    candidates, more, again = _collected(job, planned, total, densities, execute)
    kept = {
        name: [
            at_density(moments, total.extremes[name].smallest, candidates[name], density)
            for density in densities
        ]
        for name, moments in total.moments.items()
    }
    relation = _related(job, planned, kept, densities, execute) if job.vectors else None
    return Reduced(total, kept, relation, again, 1 + more)


def _collected(
    job: Job,
    shards: Sequence[Shard],
    total: Measured,
    densities: Sequence[float],
    execute: Executor,
) -> tuple[dict[str, dict[int, np.ndarray]], int, int]:
    """(counts in the boundary buckets of every comparison, passes more, bytes read again)."""
    buckets = {name: boundary_buckets(m, densities) for name, m in total.moments.items()}
    counts: dict[str, dict[int, np.ndarray]] = {name: {} for name in buckets}
    again, passes = 0, 0
    if not any(buckets.values()):
        return counts, passes, again
    for found, missed, read in _ordered(
        job, execute, [_call("collect", s, buckets) for s in shards]
    ):
        again, passes = again + read, max(passes, int(missed))
        for name, more in found.items():
            add_candidates(counts[name], more)
    return counts, passes, again


def _call(method: str, shard: Shard, *arguments: Any) -> Call:
    return Call(method, (shard.names, *arguments), shard.index)


def _largest_first(shards: Sequence[Shard]) -> list[Shard]:
    return sorted(shards, key=lambda shard: (-shard.numel, shard.index))


def _ordered(job: Job, execute: Executor, calls: Sequence[Call]) -> list[Any]:
    """The results of `calls` in their order, whatever order they come in."""
    found = dict(execute(job, calls))
    return [found[index] for index in range(len(calls))]


def _sampled(job: Job, shards: Sequence[Shard], execute: Executor) -> dict[str, np.ndarray]:
    total: dict[str, np.ndarray] = {}
    for part in _ordered(job, execute, [_call("sample", shard) for shard in shards]):
        for name, counts in part.items():
            total[name] = total[name] + counts if name in total else counts
    return total


def _foreseen(
    job: Job, sample: Mapping[str, np.ndarray], densities: Sequence[float]
) -> dict[str, tuple[int, ...]]:
    """The buckets to count along for each comparison, as far as memory allows."""
    found: dict[str, tuple[int, ...]] = {}
    room = _FORESEEN_BYTES // (_BUCKET_BYTES * job.threads)
    for name, counts in sample.items():
        buckets = foresee(counts, densities)
        if len(buckets) <= room:
            found[name] = buckets
            room -= len(buckets)
    return found


def _related(
    job: Job,
    shards: Sequence[Shard],
    kept: Mapping[str, Sequence[AtDensity]],
    densities: Sequence[float],
    execute: Executor,
) -> Relation:
    nothing = (0,) * len(densities)
    thresholds = {
        key: tuple(bits_of(found.threshold) for found in kept.get(task_vector_name(key), ()))
        or nothing
        for key in job.vectors
    }
    total = Relation()
    for part in _ordered(job, execute, [_call("relate", s, thresholds) for s in shards]):
        total.merge(part)
    return total


def compared_shapes(sides: Mapping[str, Side]) -> dict[str, Shape]:
    """The shapes of all tensors that any of the models changes. Raises ModelError."""
    shapes: dict[str, Shape] = {}
    for key, side in sides.items():
        for name, shape in side.shapes.items():
            if shapes.setdefault(name, shape) != shape:
                raise ModelError(
                    f"{name} has two shapes",
                    found=f"{shape} in {key}, {shapes[name]} elsewhere",
                    expected="models of one architecture",
                )
    return shapes


def task_vector_norms(place: Place) -> Norms:
    """The norms of one model's whole task vector, in this process."""
    job = Job({"model": place}, (Pair("", "model", BASE),))
    names = sorted(job.models().shapes)
    return sum(job.open().measure(names, {}).norms.get("", {}).values(), Norms())
