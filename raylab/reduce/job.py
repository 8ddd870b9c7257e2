"""A reduction's job: its models, the calls on its shards, and the executor that answers them.

Model: a job names the models and all options, and opens the models wherever it is sent; a
call is a method of the opened job and its arguments; an executor answers calls, in a loop in
this process or over a queue of Ray actors.
Invariant: the result of a call depends on the job and the arguments alone, not on the executor or
the order of the calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from raylab.errors import ModelError
from raylab.reduce.masks import Related
from raylab.reduce.row_block import BASE, Models, Pair
from raylab.reduce.shard import ShardJob
from raylab.spec.study import TOLERANCE, Device, Quantization
from raylab.store.references import ModelLocation
from raylab.weights import Checkpoint
from raylab.weights.device import choose_device, may_have_gpu
from raylab.weights.names import layer_of
from raylab.weights.safetensors_reader import Shape
from raylab.weights.views import DELTA, View, ViewedModel

if TYPE_CHECKING:
    from raylab.reduce.gpu import Gpu

_ENTRIES, _PRODUCTS = 1 << 30, 1 << 26
"""From so many entries on, of weights and of products of adapters, a GPU is worth its start of
some seconds: a CPU of 16 cores takes a second for about as many. An estimate until it is measured
on a GPU."""

OpenedModels = tuple[Mapping[str, ViewedModel], Checkpoint | None]
"""The models of a job by their keys, and the base model's weights if the job has a base model."""


def open_models(places: Mapping[str, ModelLocation], view: View, base: Path | None) -> OpenedModels:
    """Open the models at `places` as `view` shows them, and the base model. Raises ModelError.

    Tensors are called as in the base model's files; without it, as in the first model.
    """
    weights = Checkpoint(base) if base else None
    opened: dict[str, ViewedModel] = {}
    for key, place in places.items():
        first = next(iter(opened.values()), None)
        opened[key] = ViewedModel(place, view, weights, first)
    return opened, weights


Thresholds = Sequence[tuple[int, int]]
"""Of a task vector: (magnitude bits of the threshold, entries of the mask) at each density."""


class Call(NamedTuple):
    """A method of ShardJob and its arguments. Calls of one home want the same actor."""

    method: str
    arguments: tuple[Any, ...]
    home: int = 0


@dataclass(frozen=True)
class Job:
    """All that decides the results of a reduction, opened by every actor. `id`: its fingerprint."""

    places: Mapping[str, ModelLocation]
    pairs: tuple[Pair, ...]
    base: Path | None = None
    view: View = DELTA
    shapes: Mapping[str, Shape] | None = None
    threads: int = 1
    vectors: tuple[str, ...] = ()
    """Models whose task vectors are measured as well, related to each other, and detailed."""
    known: Mapping[str, Thresholds] = field(default_factory=dict)
    """Of `vectors`: those whose thresholds are known, so that they are only related."""
    fresh: frozenset[str] | None = None
    """Of `vectors`: only pairs with one of these are related; None: all pairs."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Of `vectors`: those whose masks are compared all at once."""
    kin: tuple[tuple[str, str], ...] = ()
    """Of `vectors`: merges, each with a model that it is made of, and keeps something of."""
    quantization: Quantization | None = None
    """How the base model was held while they were trained; for the audit."""
    count_untouched: bool = False
    skip_non_finite: bool = False
    tolerance: float = TOLERANCE
    """An entry above it moved."""
    id: str = ""
    device: Device = "auto"
    out: str | None = None
    """The object store from which a node fetches the places that lie in its scratch space."""

    def models(self, opened: OpenedModels | None = None) -> Models:
        """Open every model, if they are not `opened` already. Raises ModelError."""
        sides, base = opened or open_models(self.places, self.view, self.base)
        weights = ViewedModel(ModelLocation(checkpoint=self.base), DELTA) if self.base else None
        if weights and self.view != DELTA:
            weights = ViewedModel(ModelLocation(), self.view, base)
        shapes = compared_shapes(sides) if self.shapes is None else self.shapes
        entries = sum(map(math.prod, shapes.values())) * len(self.measured_pairs)
        has_products = any(place.adapters for place in self.places.values())
        return Models(
            sides=sides,
            shapes=shapes,
            gpu=gpu_for(self.device, entries, has_products),
            base=weights,
            weights=base,
            trained={key: self.places[key] for key in self.vectors},
            related=Related(self.fresh, self.groups, self.kin),
            quantization=self.quantization,
            skip_non_finite=self.skip_non_finite,
            count_untouched=self.count_untouched,
            tolerance=self.tolerance,
        )

    def compared(self) -> Mapping[str, Shape]:
        """The shapes over which its models are compared; no GPU is taken for it. Raises ModelError
        as it opens the models, where the job does not name the shapes."""
        if self.shapes is not None:
            return self.shapes
        return compared_shapes(open_models(self.places, self.view, self.base)[0])

    @property
    def measured_pairs(self) -> tuple[Pair, ...]:
        """The pairs, and each task vector against the base model that none of them is and whose
        thresholds are not known."""
        named = {pair.name for pair in self.pairs}
        vectors = [(key, name) for key, name in self.task_vectors.items() if name not in named]
        more = [Pair(name, key, BASE) for key, name in vectors if key not in self.known]
        return (*self.pairs, *more)

    @cached_property
    def task_vectors(self) -> Mapping[str, str]:
        """By model of `vectors`, the name of the pair that is its task vector."""
        trained = {k for k, place in self.places.items() if place.adapters or place.checkpoint}
        known = {pair.a: pair.name for pair in self.pairs if pair.b not in trained}
        return {key: known.get(key, f"the task vector of {key}") for key in self.vectors}

    def open(self, opened: OpenedModels | None = None) -> ShardJob:
        """Open every model, if they are not `opened` already, for reducing shards."""
        return ShardJob(self.models(opened), self.measured_pairs, self.threads)


Executor = Callable[[Job, Sequence[Call]], Iterator[tuple[int, Any]]]
"""Gives (index of the call, result), in any order."""


class InProcess:
    """The executor without Ray: one call after another, the models opened once."""

    def __init__(self, job: Job | None = None, opened: OpenedModels | None = None) -> None:
        """With a `job` whose models are `opened` already, nothing is opened again for it."""
        self._job = job
        if job:
            self._shards = job.open(opened)

    @property
    def device(self) -> str:
        """`cpu` or `cuda`: where differences are computed."""
        gpu = self._shards.models.gpu
        return gpu.device.type if gpu else "cpu"

    def __call__(self, job: Job, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        """Each call's result, in order."""
        if self._job is not job:
            self._job, self._shards = job, job.open()
        for index, call in enumerate(calls):
            yield index, getattr(self._shards, call.method)(*call.arguments)


def gpu_for(device: Device, entries: int, has_products: bool) -> Gpu | None:
    """The GPU that a reduction of so many differences uses, None for the CPU. Raises InputError."""
    is_large = entries >= (_PRODUCTS if has_products else _ENTRIES)
    has_gpu = _has_gpu()
    if choose_device(device, is_large=is_large, has_gpu=has_gpu, verb="reduce") == "cpu":
        return None
    from raylab.reduce.gpu import own_gpu

    return own_gpu()


def compared_shapes(sides: Mapping[str, ViewedModel]) -> dict[str, Shape]:
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


@dataclass(frozen=True)
class Shard:
    """The tensors that are reduced together, in the order of their names."""

    index: int
    names: tuple[str, ...]
    numel: int


def plan_shards(shapes: Mapping[str, Shape], most: int) -> list[Shard]:
    """At most `most` shards over the tensors of `shapes`, of sizes as equal as layers allow."""
    layers: dict[str, list[str]] = {}
    for name in sorted(shapes):
        layers.setdefault(layer_of(name), []).append(name)
    sizes = {layer: sum(math.prod(shapes[n]) for n in names) for layer, names in layers.items()}
    keys = sorted(layers)
    dealt = balanced([sizes[key] for key in keys], max(1, min(most, len(layers))))
    return [
        Shard(
            index,
            tuple(sorted(name for place in places for name in layers[keys[place]])),
            sum(sizes[keys[place]] for place in places),
        )
        for index, places in enumerate(dealt)
    ]


def balanced(sizes: Sequence[int], count: int) -> list[list[int]]:
    """The places of `sizes` in `count` bins whose sums are as equal as this gets: the largest
    first, of equal ones the first, each into the lightest bin (Graham 1969, LPT)."""
    bins: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        lightest = loads.index(min(loads))
        bins[lightest].append(place)
        loads[lightest] += sizes[place]
    return bins


def _has_gpu() -> bool:
    """torch is asked only where a driver is there: to import it takes longer than a small job."""
    if not may_have_gpu():
        return False
    import torch

    return torch.cuda.is_available()
