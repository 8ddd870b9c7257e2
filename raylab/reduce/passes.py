"""All comparisons over one base model: plan the shards, run the passes, make the rows.

Model: `reduce_pairs` hands calls to an executor and adds up the results. First a sample
foresees the boundary buckets and guesses thresholds; then one pass measures, and, where every
threshold was guessed, relates the models to each other; then the candidates of the boundary
buckets are asked for. Models are read again only where buckets were not foreseen, and to be
related where thresholds were not guessed, or wrongly.
Where no curve is asked and the sample foresees every threshold, sums of intervals take the place
of histograms, which cost four times as much.
Invariant: the sample leaves no trace but in how often models are read. Rows come in the order of
comparisons, levels and keys; they do not depend on the executor, the order of answers or the
number of shards. A comparison whose two sides touch nothing has a row of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raylab.reduce.group_rows import group_rows
from raylab.reduce.histogram import Norms, add_candidates, bits_of
from raylab.reduce.job import Call, Executor, Job, Thresholds, plan_shards
from raylab.reduce.kept_rows import kept_rows
from raylab.reduce.masks import Limits
from raylab.reduce.measured import Measured
from raylab.reduce.pairwise import Relation, relation_rows
from raylab.reduce.row_block import BASE, Pair
from raylab.reduce.table_rows import curve_rows, density_rows, norm_rows
from raylab.reduce.tables import Tables
from raylab.reduce.threshold import AtDensity, at_density, boundary_buckets
from raylab.reduce.threshold_sampling import foresee, guess
from raylab.store.references import ModelLocation
from raylab.weights.views import DELTA

SHARDS = 32
_FORESEEN_BYTES = 1 << 28
_BUCKET_BYTES = 1 << 18


@dataclass
class Reduced:
    """Everything measured of one job, before rows are made of it."""

    total: Measured
    kept: dict[str, list[AtDensity]]
    relation: Relation | None
    bytes_read_again: int
    passes: int = 1
    """How often the models were gone through, the sample aside."""


def reduce_pairs(
    job: Job,
    densities: Sequence[float],
    execute: Executor,
    shards: int = SHARDS,
    subspaces: bool = False,
    by_tensor: bool = False,
    phi: bool = False,
) -> Tables:
    """The rows of norms, densities, curve, pairs, kept_by and kept_of; those of `subspaces` if a
    job asks for them that shows task vectors. by_tensor: pairs, groups, kin and phi have rows of
    tensors as well. phi: the rows of phi beside those of subspaces."""
    found = reduce_job(job, densities, execute, shards)
    common = {"view": job.view.name, "universe": universe_of(job)}
    read, again = found.total.bytes_read, found.bytes_read_again
    rows = Tables(bytes_read=read, bytes_read_again=again, passes=found.passes)
    for pair in job.pairs:
        reference = reference_of(job, pair)
        rows.norms += norm_rows(pair, found.total, reference, job.tolerance, common)
        rows.densities += density_rows(pair, found.kept.get(pair.name, []), common)
        rows.curve += curve_rows(pair, found.total, common)
    if found.relation:
        related = (job.vectors, found.relation, densities)
        rows.pairs += [common | row for row in relation_rows(*related, job.fresh, by_tensor)]
        of_groups = group_rows(job.vectors, job.groups, found.relation, densities, by_tensor)
        rows.kept_by += [common | row for row in of_groups]
        of_merges = kept_rows(job.vectors, job.kin, found.relation, densities, by_tensor)
        rows.kept_of += [common | row for row in of_merges]
        if subspaces and job.view.name == DELTA.name and job.fresh != frozenset():
            rows.extend(relate_subspaces(job, execute, shards, by_tensor, phi))
    return rows


def relate_subspaces(
    job: Job,
    execute: Executor,
    shards: int = SHARDS,
    by_tensor: bool = False,
    phi: bool = False,
) -> Tables:
    """The rows of subspaces, and of `phi` where asked, of the models of `job.vectors`, which the
    job shows as task vectors."""
    from raylab.reduce.phi_rows import phi_rows
    from raylab.reduce.subspaces import TensorSubspaces, subspace_rows

    total, read_again = dict[str, TensorSubspaces](), 0
    for part, read in _ShardCalls(job, execute, shards).all("subspaces", phi):
        total |= part
        read_again += read
    related, view = (job.vectors, total, job.fresh), {"view": DELTA.name}
    return Tables(
        subspaces=[{**view, **row} for row in subspace_rows(*related)],
        phi=[{**view, **row} for row in phi_rows(*related, by_tensor)],
        bytes_read_again=read_again,
    )


def detail_models(job: Job, execute: Executor, shards: int = SHARDS) -> Tables:
    """The rows of spectra, chains and audit of the models of `job.vectors`."""
    from raylab.reduce.model_details import Details, detail_rows

    total = Details()
    for part in _ShardCalls(job, execute, shards).all("detail"):
        total.merge(part)
    rows = detail_rows(total)
    return Tables(spectra=rows["spectra"], chains=rows["chains"], audit=rows["audit"])


def universe_of(job: Job) -> str:
    """`compared` or, where untouched parameters count as zeros, `model`."""
    return "model" if job.count_untouched else "compared"


def reference_of(job: Job, pair: Pair) -> str:
    """The key of the weights that relative norms of `pair` are relative to."""
    place = job.places.get(pair.b, ModelLocation())
    return pair.b if place.checkpoint else BASE


def reduce_job(
    job: Job,
    densities: Sequence[float],
    execute: Executor,
    shards: int = SHARDS,
    masks: bool = True,
    curve: bool = True,
) -> Reduced:
    """Run every pass of `job`; without `masks`, models are related by values and signs alone;
    without `curve`, no histograms are filled where the sample foresees the thresholds."""
    calls = _ShardCalls(job, execute, shards)
    sample, total = _sampled(calls)
    guessed = _guessed(job, sample, densities if masks else ())
    foreseen, is_whole = _foreseen(job, sample, densities)
    for part in calls.all("measure", foreseen, guessed or {}, curve or not is_whole):
        total.merge(part)
    thresholds = _thresholds(calls, total, densities)
    if any(None in kept for kept in thresholds.kept.values()):
        again = Measured()
        for part in calls.all("measure", {}, {}, True):
            again.merge(part)
        total.magnitudes = again.magnitudes
        thresholds = _thresholds(calls, total, densities).after(again.bytes_read, thresholds)
    kept = {name: [at for at in found if at] for name, found in thresholds.kept.items()}
    relation = total.relation if guessed else None
    found = Reduced(total, kept, relation, thresholds.bytes_read, 1 + thresholds.passes)
    if not masks or len(job.vectors) < 2:
        return found
    return _related(calls, found, guessed, densities)


class _ShardCalls:
    """Calls one method after another on every shard of a job."""

    def __init__(self, job: Job, execute: Executor, shards: int) -> None:
        self.job, self._execute = job, execute
        planned = plan_shards(job.compared(), shards)
        self._largest_first = sorted(planned, key=lambda shard: (-shard.numel, shard.index))

    def all(self, method: str, *arguments: Any) -> Iterator[Any]:
        """The result of each shard, the largest shard first, whatever order they come in; none is
        held once it was given."""
        calls = [Call(method, (s.names, *arguments), s.index) for s in self._largest_first]
        early: dict[int, Any] = {}
        following = 0
        for index, found in self._execute(self.job, calls):
            early[index] = found
            while following in early:
                yield early.pop(following)
                following += 1
        assert following == len(calls), "a shard has no result"


def _sampled(calls: _ShardCalls) -> tuple[dict[str, np.ndarray], Measured]:
    """(the sample's counts by comparison, a `Measured` with the bytes read so far)."""
    total: dict[str, np.ndarray] = {}
    start = Measured()
    for part, read in calls.all("sample"):
        start.bytes_read += read
        for name, counts in part.items():
            total[name] = total[name] + counts if name in total else counts
    return total, start


def _foreseen(
    job: Job, sample: Mapping[str, np.ndarray], densities: Sequence[float]
) -> tuple[dict[str, tuple[int, ...]], bool]:
    """(the buckets to count in for each comparison, as far as memory allows, whether there are
    some for every threshold)."""
    found: dict[str, tuple[int, ...]] = {}
    room = _FORESEEN_BYTES // (_BUCKET_BYTES * job.threads)
    is_whole = True
    for name, (counts, _) in sample.items():
        ranges = [foresee(counts, density) for density in densities if density < 1]
        buckets = tuple(sorted({bucket for each in ranges for bucket in each}))
        if len(buckets) <= room:
            found[name] = buckets
            room -= len(buckets)
        is_whole = is_whole and name in found and all(ranges)
    return found, is_whole


def _guessed(
    job: Job, sample: Mapping[str, np.ndarray], densities: Sequence[float]
) -> Limits | None:
    """Thresholds of the models to relate; None where any cannot be guessed: all would have to be
    related again. A model alone is not related."""
    if len(job.vectors) < 2:
        return None
    found: dict[str, tuple[int, ...]] = {}
    for key, name in job.task_vectors.items():
        guesses: list[int | None] = [bits for bits, _ in job.known.get(key, ())]
        if key not in job.known:
            guesses = [guess(sample[name], density) for density in densities]
        found[key] = tuple(bits for bits in guesses if bits is not None)
    return found if all(len(own) == len(densities) for own in found.values()) else None


@dataclass
class _Thresholds:
    """The outcome at each density, None where no interval holds the threshold; the passes and the
    bytes read for it, beyond those of the pass that measures."""

    kept: dict[str, list[AtDensity | None]]
    passes: int = 0
    bytes_read: int = 0

    def after(self, bytes_read: int, first: _Thresholds) -> _Thresholds:
        """The same, with the cost of one more pass and of a `first` try added."""
        passes, bytes_before = first.passes + 1, first.bytes_read + bytes_read
        return replace(self, passes=self.passes + passes, bytes_read=self.bytes_read + bytes_before)


def _thresholds(calls: _ShardCalls, total: Measured, densities: Sequence[float]) -> _Thresholds:
    """The thresholds of every comparison, with the candidates of their boundary buckets."""
    buckets = {name: boundary_buckets(m, densities) for name, m in total.magnitudes.items()}
    counts: dict[str, dict[int, np.ndarray]] = {name: {} for name in buckets}
    again, passes = 0, 0
    for found, missed, read in calls.all("collect", buckets) if any(buckets.values()) else ():
        again, passes = again + read, max(passes, int(missed))
        for name, more in found.items():
            add_candidates(counts[name], more)
    kept = {
        name: [at_density(magnitudes, counts[name], density) for density in densities]
        for name, magnitudes in total.magnitudes.items()
    }
    return _Thresholds(kept, passes, again)


def _related(
    calls: _ShardCalls, found: Reduced, guesses: Limits | None, densities: Sequence[float]
) -> Reduced:
    """`found` with all models related, with masks at the true thresholds; where these were not
    guessed, all models are read again."""
    vectors = calls.job.task_vectors.items()
    truth: dict[str, Thresholds] = {key: _at(found, name, len(densities)) for key, name in vectors}
    truth |= calls.job.known
    if found.relation and guesses and found.relation.has_masks(list(truth.values())):
        return found
    relation = Relation()
    again = found.bytes_read_again
    limits = {key: tuple(bits for bits, _ in at) for key, at in truth.items()}
    for part, read in calls.all("relate", limits):
        relation.merge(part)
        again += read
    return replace(found, relation=relation, bytes_read_again=again, passes=found.passes + 1)


def _at(found: Reduced, name: str, densities: int) -> list[tuple[int, int]]:
    """(bits of the threshold, how many entries its mask keeps) at each density, of the task vector
    that is called `name`."""
    if name not in found.kept:
        return [(0, 0)] * densities
    nonzero = found.total.magnitudes[name].extremes.nonzero
    return [
        (bits_of(at.threshold), at.at_or_above if at.threshold > 0 else nonzero)
        for at in found.kept[name]
    ]


def task_vector_norms(place: ModelLocation) -> Norms:
    """The norms of one model's whole task vector, in this process."""
    job = Job({"model": place}, (Pair("", "model", BASE),))
    shards = job.open()
    found = shards.measure(sorted(shards.models.shapes), {}, {})
    return sum(found.norms.get("", {}).values(), Norms())
