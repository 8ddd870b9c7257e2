"""All comparisons of one base model: plan the shards, run two passes, make the rows.

Model: `reduce_pairs` asks an executor to run a pass over every shard; the executor may be a
loop in this process or a queue over Ray actors. Between the passes the shards' moments are
added up and the boundary buckets chosen.
Invariant: rows come in the order of comparisons, levels and keys; they do not depend on the
executor or the number of shards. A comparison whose two sides touch nothing has a row of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raylab.plan.shards import Shard, layer_of, module_of, plan_shards
from raylab.reduce.kernels import Norms, add_candidates, no_moments
from raylab.reduce.shard import BASE, Pair, Place, ShardJob, ShardResult, compared_shapes
from raylab.reduce.threshold import at_density, boundary_buckets, curve

VIEW = "delta"
UNIVERSE = "compared"
SHARDS = 32

Call = tuple[str, tuple[Any, ...]]
Executor = Callable[["Job", Sequence[Call]], Iterable[Any]]


@dataclass(frozen=True)
class Job:
    """What every actor opens: the models by key, the pairs, and the base model's weights."""

    places: Mapping[str, Place]
    pairs: tuple[Pair, ...]
    base: Path | None

    def open(self) -> ShardJob:
        """Open every model."""
        return ShardJob(self.places, self.pairs, self.base)


@dataclass
class Tables:
    """Rows of the tables that a reduction fills."""

    norms: list[dict[str, Any]] = field(default_factory=list)
    densities: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)

    def extend(self, other: Tables) -> None:
        """Append the rows of another reduction."""
        self.norms += other.norms
        self.densities += other.densities
        self.curve += other.curve


def in_process(job: Job, calls: Sequence[Call]) -> list[Any]:
    """The executor without Ray: one call after another."""
    opened = job.open()
    return [getattr(opened, method)(*arguments) for method, arguments in calls]


def reduce_pairs(job: Job, densities: Sequence[float], execute: Executor) -> Tables:
    """The rows of norms, densities and curve for every pair of `job`."""
    shards = plan_shards(compared_shapes(job.places), SHARDS)
    shards = sorted(shards, key=lambda shard: (-shard.numel, shard.index))
    total = _first_pass(job, shards, execute)
    buckets = {
        pair.name: boundary_buckets(total.moments.get(pair.name, no_moments()), densities)
        for pair in job.pairs
    }
    found = _second_pass(job, shards, buckets, execute)
    rows = Tables()
    for pair in job.pairs:
        rows.norms += _norm_rows(pair, total)
        rows.densities += _density_rows(pair, total, found[pair.name], densities)
        rows.curve += _curve_rows(pair, total)
    return rows


def _first_pass(job: Job, shards: Sequence[Shard], execute: Executor) -> ShardResult:
    total = ShardResult()
    for part in execute(job, [("measure", (shard.names,)) for shard in shards]):
        total.merge(part)
    return total


def _second_pass(
    job: Job, shards: Sequence[Shard], buckets: Mapping[str, Sequence[int]], execute: Executor
) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {pair.name: {} for pair in job.pairs}
    for part in execute(job, [("collect", (shard.names, buckets)) for shard in shards]):
        for pair, counts in part.items():
            add_candidates(found[pair], counts)
    return found


def _levels(names: Iterable[str]) -> Iterator[tuple[str, str, list[str]]]:
    """(level, key, tensors) for the whole, every layer, module kind and tensor."""
    ordered = sorted(names, key=_natural)
    yield "all", "all", ordered
    for level, key_of in (("layer", layer_of), ("module", module_of), ("tensor", str)):
        groups: dict[str, list[str]] = {}
        for name in ordered:
            groups.setdefault(key_of(name), []).append(name)
        for key, members in groups.items():
            yield level, key, members


def _natural(name: str) -> list[tuple[int, str]]:
    """Layers in the order of their numbers: 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _norm_rows(pair: Pair, total: ShardResult) -> Iterator[dict[str, Any]]:
    tensors = total.norms.get(pair.name, {})
    for level, key, members in _levels(tensors):
        norms = sum((tensors[name] for name in members), Norms())
        yield {
            "comparison": pair.name,
            "a": pair.a,
            "b": pair.b,
            "view": VIEW,
            "universe": UNIVERSE,
            "level": level,
            "key": key,
            "numel": norms.numel,
            "l1": norms.l1,
            "l2": norms.l2,
            "linf": norms.linf,
            "nonzero": norms.nonzero,
            "relative_l2": _relative(norms, members, _reference(pair, total)),
        }


def _reference(pair: Pair, total: ShardResult) -> Mapping[str, Norms]:
    """Norms of b's values by tensor: its own where it is a checkpoint, else the base's."""
    return total.weights.get(pair.b) or total.weights.get(BASE, {})


def _relative(norms: Norms, members: Sequence[str], values: Mapping[str, Norms]) -> float | None:
    """l2 over the L2 of b's values in the same tensors; None where they are not there."""
    if not members or any(name not in values for name in members):
        return None
    weights = sum((values[name] for name in members), Norms())
    return norms.l2 / weights.l2 if weights.l2 > 0 else None


def _density_rows(
    pair: Pair, total: ShardResult, found: Mapping[int, int], densities: Sequence[float]
) -> Iterator[dict[str, Any]]:
    moments = total.moments.get(pair.name)
    if moments is None:
        return
    for density in densities:
        kept = asdict(at_density(moments, found, density))
        yield {"comparison": pair.name, "view": VIEW, "universe": UNIVERSE, **kept}


def _curve_rows(pair: Pair, total: ShardResult) -> Iterator[dict[str, Any]]:
    moments = total.moments.get(pair.name)
    if moments is None:
        return
    for density, l1_share, l2_share in curve(moments):
        yield {
            "comparison": pair.name,
            "view": VIEW,
            "density": density,
            "l1_share": l1_share,
            "l2_share": l2_share,
        }
