"""One shard's whole job: every comparison over its tensors, each model read once. No Ray.

Model: a pair is read tile by tile; for each tile the delta of every model is formed once, and
every comparison subtracts two of them. The first pass measures norms and buckets; the second
collects the candidates of the boundary buckets. The results of shards add up.
Invariant: tiles and one BLAS thread make the bits of a delta depend on the tensor alone; sums
are exact integers. So the outcome is the same for any split into shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from raylab.errors import ModelError, NonFiniteError
from raylab.plan.shards import Shape, tiles
from raylab.reduce.kernels import (
    Moments,
    Norms,
    add_candidates,
    add_moments,
    bucket_moments,
    candidates,
    no_moments,
    tensor_norms,
)
from raylab.store.tensors import Adapter, Checkpoint, Source

BASE = ""


@dataclass(frozen=True)
class Place:
    """Where a model's parameters lie: adapters over a base (the oldest first), or a checkpoint.

    With neither it is the base model itself, whose task vector is zero.
    """

    adapters: tuple[Path, ...] = ()
    checkpoint: Path | None = None
    base: Path | None = None


@dataclass(frozen=True)
class Pair:
    """A comparison as the reduction sees it: two keys of the places."""

    name: str
    a: str
    b: str


@dataclass
class ShardResult:
    """Norms by comparison and tensor, and moments by comparison; results add up."""

    norms: dict[str, dict[str, Norms]] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)
    weights: dict[str, dict[str, Norms]] = field(default_factory=dict)
    """Norms of weights by model and tensor, for relative norms; BASE for the base model's."""

    def merge(self, other: ShardResult) -> None:
        """Take in what another shard found."""
        for name, tensors in other.norms.items():
            self.norms.setdefault(name, {}).update(tensors)
            known = self.moments.get(name)
            mine = other.moments[name]
            self.moments[name] = mine if known is None else add_moments(known, mine)
        for key, tensors in other.weights.items():
            self.weights.setdefault(key, {}).update(tensors)


class TaskVector:
    """The delta of one model against its base, by rows: the sum of its adapters, or a checkpoint
    minus the base."""

    def __init__(self, place: Place) -> None:
        """Open what `place` names. Raises ModelError."""
        self._parts: list[Source] = [Adapter.open(path) for path in place.adapters]
        self.whole = Checkpoint(place.checkpoint) if place.checkpoint else None
        self._base_path = place.base

    @cached_property
    def _base(self) -> Checkpoint:
        if self._base_path is None:
            raise ModelError(
                "a checkpoint has no base model to be held against",
                expected="the base model's weights on this machine",
            )
        return Checkpoint(self._base_path)

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shapes of the tensors that it changes."""
        sources = [self.whole] if self.whole else self._parts
        return {name: shape for source in sources for name, shape in source.shapes.items()}

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor | None:
        """Rows of its delta; None where it does not touch the tensor."""
        if self.whole:
            mine = self.whole.rows(name, start, stop)
            return mine - self._base.rows(name, start, stop)
        total: torch.Tensor | None = None
        for part in self._parts:
            if name in part.shapes:
                delta = part.rows(name, start, stop)
                total = delta if total is None else total + delta
        return total


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """The bits of a matrix product may depend on the number of threads: use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compared_shapes(places: Mapping[str, Place]) -> dict[str, Shape]:
    """The shapes of all tensors that any of the models changes. Raises ModelError."""
    shapes: dict[str, Shape] = {}
    for key, place in places.items():
        for name, shape in TaskVector(place).shapes.items():
            if shapes.setdefault(name, shape) != shape:
                raise ModelError(
                    f"{name} has two shapes",
                    found=f"{shape} in {key}, {shapes[name]} elsewhere",
                    expected="models of one architecture",
                )
    return shapes


class ShardJob:
    """Reduces the tensors of shards; opens every model once."""

    def __init__(
        self, places: Mapping[str, Place], pairs: Sequence[Pair], base: Path | None
    ) -> None:
        """Open the models of `places`; `base` gives the weights for relative norms."""
        self._vectors = {key: TaskVector(place) for key, place in places.items()}
        self._pairs = tuple(pairs)
        self._checkpoints = {k: v.whole for k, v in self._vectors.items() if v.whole}
        if base:
            self._checkpoints[BASE] = Checkpoint(base)
        self._shapes = {
            name: shape for v in self._vectors.values() for name, shape in v.shapes.items()
        }
        self._device = torch.device("cuda", 0) if torch.cuda.is_available() else "cpu"

    def measure(self, names: Sequence[str]) -> ShardResult:
        """The first pass over the tensors `names`: norms and moments of every comparison."""
        result = ShardResult()
        with one_blas_thread():
            for name in names:
                for pair, tile in self._tiles(name):
                    _count(result, pair, name, tile)
                self._weigh(result, name)
        return result

    def _weigh(self, result: ShardResult, name: str) -> None:
        for key, checkpoint in self._checkpoints.items():
            if name in checkpoint.shapes:
                result.weights.setdefault(key, {})[name] = _weight_norms(checkpoint, name)

    def collect(
        self, names: Sequence[str], buckets: Mapping[str, Sequence[int]]
    ) -> dict[str, dict[int, int]]:
        """The second pass: the candidates of every comparison in its boundary buckets."""
        found: dict[str, dict[int, int]] = {name: {} for name in buckets}
        with one_blas_thread():
            for name in names:
                for pair, tile in self._tiles(name):
                    add_candidates(found[pair], candidates(tile, buckets[pair]))
        return found

    def _tiles(self, name: str) -> Iterator[tuple[str, torch.Tensor]]:
        """(comparison, tile of its difference) for every comparison that touches the tensor."""
        for start, stop in tiles(self._shapes[name]):
            deltas = {
                key: None if rows is None else rows.to(self._device)
                for key, rows in self._deltas(name, start, stop)
            }
            for pair in self._pairs:
                difference = self._whole_difference(pair, name, start, stop)
                if difference is None:
                    difference = _subtract(deltas[pair.a], deltas[pair.b])
                if difference is not None:
                    yield pair.name, difference

    def _whole_difference(
        self, pair: Pair, name: str, start: int, stop: int
    ) -> torch.Tensor | None:
        """float32(a) - float32(b) of two checkpoints, without a detour over the base's rounding."""
        a, b = (self._checkpoints.get(key) for key in (pair.a, pair.b))
        if a is None or b is None:
            return None
        return (a.rows(name, start, stop) - b.rows(name, start, stop)).to(self._device)

    def _deltas(
        self, name: str, start: int, stop: int
    ) -> Iterator[tuple[str, torch.Tensor | None]]:
        for key, vector in self._vectors.items():
            yield key, vector.rows(name, start, stop)


def _weight_norms(checkpoint: Checkpoint, name: str) -> Norms:
    total = Norms()
    for start, stop in tiles(checkpoint.shapes[name]):
        rows = checkpoint.rows(name, start, stop)
        total += tensor_norms(rows, bucket_moments(rows))
    return total


def _subtract(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
    if a is None or b is None:
        return a if b is None else -b
    return a - b


def _count(result: ShardResult, pair: str, name: str, tile: torch.Tensor) -> None:
    try:
        moments = bucket_moments(tile)
    except NonFiniteError as error:
        raise NonFiniteError(f"{pair}: {name}: {error.what}", found=error.found) from None
    tensors = result.norms.setdefault(pair, {})
    tensors[name] = tensors.get(name, Norms()) + tensor_norms(tile, moments)
    known = result.moments.setdefault(pair, no_moments())
    result.moments[pair] = add_moments(known, moments)


def task_vector_norms(place: Place) -> Norms:
    """The norms of one model's whole task vector, in this process."""
    job = ShardJob({"model": place, "base": Place()}, [Pair("", "model", "base")], None)
    names = sorted(compared_shapes({"model": place}))
    return sum(job.measure(names).norms.get("", {}).values(), Norms())
