"""Tensor names and sizes -> shards and tiles.

Model: a shard is a set of layers that one actor reduces for all comparisons at once; layers are
dealt out, the largest first, to the shard that has least so far. A tile is a run of full-width
rows of one tensor, of about 2^18 entries, whose temporaries stay near the core (adapters took 1.3
times as long in tiles of 2^20).
Invariant: the tiles of a tensor depend on its shape alone; every tensor is in exactly one
shard; the plan depends on names, shapes and the number of shards, not on who executes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

TILE_ENTRIES = 1 << 18
_LAYER = re.compile(r"^(.*?\.\d+)\.(.+)$")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Shard:
    """The tensors that are reduced together, in the order of their names."""

    index: int
    names: tuple[str, ...]
    numel: int


def layer_of(name: str) -> str:
    """model.layers.3.self_attn.q_proj.weight -> model.layers.3; else the module's own name."""
    match = _LAYER.match(name)
    return match.group(1) if match else name.rpartition(".")[0] or name


def module_of(name: str) -> str:
    """model.layers.3.self_attn.q_proj.weight -> q_proj; a bias keeps its word: q_proj.bias."""
    stem, _, last = name.rpartition(".")
    module = stem.rpartition(".")[2] or name
    return module if last == "weight" else f"{module}.{last}" if stem else name


def levels(names: Iterable[str]) -> Iterator[tuple[str, str, list[str]]]:
    """(level, key, tensors) for the whole, every layer, module kind and tensor."""
    ordered = sorted(names, key=natural_order)
    yield "all", "all", ordered
    for level, key_of in (("layer", layer_of), ("module", module_of), ("tensor", str)):
        groups: dict[str, list[str]] = {}
        for name in ordered:
            groups.setdefault(key_of(name), []).append(name)
        for key, members in groups.items():
            yield level, key, members


def natural_order(name: str) -> list[tuple[int, str]]:
    """Layers in the order of their numbers: 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


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


def tiles(shape: Shape, entries: int | None = None) -> Iterator[tuple[int, int]]:
    """(start, stop) of the row tiles of a tensor, of about `entries`
    (TILE_ENTRIES); a vector is one row."""
    rows = shape[0] if len(shape) > 1 else 1
    columns = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
    step = max(1, (entries or TILE_ENTRIES) // max(1, columns))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)
