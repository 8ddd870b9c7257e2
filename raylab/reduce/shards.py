"""Which tensors are reduced together.

Model: a shard is a set of layers that one actor reduces for all comparisons at once. The largest
layers are dealt out first, each to the shard that has the fewest entries so far.
Invariant: every tensor is in exactly one shard. The plan depends on names, shapes and the number
of shards, not on the executor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from raylab.weights.names import layer_of
from raylab.weights.safetensors_reader import Shape


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
    count = max(1, min(most, len(layers)))
    bins: list[list[str]] = [[] for _ in range(count)]
    loads = [0] * count
    for layer in sorted(layers, key=lambda key: (-sizes[key], key)):
        lightest = loads.index(min(loads))
        bins[lightest] += layers[layer]
        loads[lightest] += sizes[layer]
    return [Shard(i, tuple(sorted(bins[i])), loads[i]) for i in range(count)]
