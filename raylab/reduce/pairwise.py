"""How the task vectors of all pairs of models relate: cosine, signs, overlap of masks.

Model: the deltas of N models over one tile are the rows of a matrix X (N, entries). Three kinds
of products X X^T, over float64 values, over signs, and over masks of the largest entries, answer
for all pairs at once, so that N models cost N reads and never N squared.

    cosine(a, b)         = <a, b> / (|a| |b|)
    sign_agreement       = entries where both are non-zero and of one sign / both non-zero
    overlap(a, b)        = |A and B| / sqrt(|A| |B|), A and B the masks at a density
    overlap_by_chance    = sqrt(|A| |B|) / numel, the expectation of independent masks

`raylab.reduce.masks` says what a mask keeps. Masks of one model are nested: two thresholds of
equal counts have equal masks.
Invariant: products are taken over slices whose bounds depend on the tensor alone, and added in
their order: the same bits for any shards and threads. Counts are exact: products of signs are
integers below 2^24.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from raylab.reduce.dot_products import dot_products
from raylab.reduce.masks import (
    ALL_PAIRS,
    Deltas,
    Limits,
    MaskCounts,
    Masks,
    Related,
    counts,
    device_of,
    on_host,
    slices,
)
from raylab.weights.names import levels


@dataclass
class Products:
    """Of one tensor, for N models: dot float64 (N, N); agree, both int64 (N, N); the masks at each
    density. `touched` says which of the models change the tensor. On a GPU they are torch tensors
    there, until `on_host` brings them back."""

    numel: int
    touched: np.ndarray
    dot: Any
    agree: Any
    both: Any
    masks: Masks

    def __iadd__(self, other: Products) -> Products:
        self.numel += other.numel
        self.dot += other.dot
        self.agree += other.agree
        self.both += other.both
        self.masks += other.masks
        return self

    def on_host(self) -> Products:
        """The same as arrays."""
        dot, agree, both = map(on_host, (self.dot, self.agree, self.both))
        return Products(self.numel, self.touched, dot, agree, both, self.masks.on_host())


@dataclass
class Relation:
    """Products by tensor; other shards have other tensors."""

    tensors: dict[str, Products] = field(default_factory=dict)

    def merge(self, other: Relation) -> None:
        """Take in other tensors."""
        self.tensors.update(other.tensors)

    def kept(self, model: int, density: int) -> int:
        """How many entries the mask of one model keeps at one density, both by index."""
        return sum(int(part.masks.shared[density, model, model]) for part in self.tensors.values())

    def with_masks(self, masks: Mapping[str, Masks]) -> Relation:
        """The same products with these masks, by tensor."""
        return Relation({n: replace(part, masks=masks[n]) for n, part in self.tensors.items()})


class OrderedSum:
    """Adds the products of one tensor's tiles in the order of their rows, whatever order they
    come in; a tile that comes too early waits."""

    def __init__(self) -> None:
        """Nothing added yet."""
        self.total: Products | None = None
        self._next = 0
        self._waiting: dict[int, tuple[int, Products]] = {}

    def add(self, start: int, stop: int, products: Products) -> None:
        """Take in the tile of rows [start, stop)."""
        self._waiting[start] = (stop, products)
        while self._next in self._waiting:
            self._next, ready = self._waiting.pop(self._next)
            if self.total is None:
                self.total = ready
            else:
                self.total += ready


def products_of(
    numel: int, deltas: Deltas, limits: Limits, related: Related = ALL_PAIRS
) -> Products:
    """The products of one tile of `numel` entries, with masks at the thresholds of `limits`; zeros
    stand for the pairs that are not asked for."""
    device, count = device_of(deltas), len(deltas)
    chosen = related.chosen(deltas)
    touched = np.array([rows is not None for rows in deltas.values()])
    dot = torch.zeros((count, count), dtype=torch.float64, device=device)
    agree, both = (torch.zeros(dot.shape, dtype=torch.int64, device=device) for _ in range(2))
    masks = MaskCounts(limits, related, chosen, device)
    for rows in slices(numel, deltas):
        finite, products = _dot_products(rows, chosen)
        dot += products
        signs = torch.sign(finite)
        equal, nonzero = counts(signs, chosen), counts(signs.abs(), chosen)
        agree += (nonzero + equal) // 2
        both += nonzero
        masks.add(rows)
    found = Products(numel, touched, dot, agree, both, masks.found)
    return found.on_host() if device.type == "cpu" else found


def _dot_products(rows: torch.Tensor, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """(`rows` with zeros for entries that are not finite, their products in float64).

    Such an entry was an error when the rows were measured, unless the user said to leave it out.
    """
    if rows.device.type != "cpu":
        rows = torch.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)
        wide = rows.to(torch.float64)
        return rows, wide @ wide.T
    # A look at the products is cheaper than one at the rows.
    products = dot_products(rows, chosen)
    if not torch.isfinite(products).all():
        rows = torch.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)
        products = dot_products(rows, chosen)
    return rows, products


def whole_relation(relation: Relation, first: int, second: int) -> dict[str, Any]:
    """Cosine and signs of two whole task vectors."""
    return _of_pair(list(relation.tensors.values()), first, second)


def relation_rows(
    keys: Sequence[str],
    relation: Relation,
    densities: Sequence[float],
    fresh: frozenset[str] | None = None,
    by_tensor: bool = False,
) -> Iterator[dict[str, Any]]:
    """Rows of the pairs table for every pair of `keys`, or every one with a model of `fresh`,
    level, key and density; those of tensors where asked."""
    for first, second in itertools.combinations(range(len(keys)), 2):
        if fresh is not None and fresh.isdisjoint((keys[first], keys[second])):
            continue
        touched = [
            name
            for name, found in relation.tensors.items()
            if found.touched[first] or found.touched[second]
        ]
        for level, key, members in levels(touched):
            if level == "tensor" and not by_tensor:
                continue
            parts = [relation.tensors[name] for name in members]
            common = {
                "a": keys[first],
                "b": keys[second],
                "level": level,
                "key": key,
                **_of_pair(parts, first, second),
            }
            for index, density in enumerate(densities):
                yield {**common, "density": density, **_overlap(parts, index, first, second)}


def cosine_of(parts: Sequence[Products], a: int, b: int) -> float | None:
    """The cosine of two models over the tensors of `parts`; None where one changes none of them."""
    dot, left, right = (
        math.fsum(float(part.dot[i, j]) for part in parts) for i, j in ((a, b), (a, a), (b, b))
    )
    if not (left > 0 and right > 0):
        return None
    # Of equal vectors the quotient can be 2e-16 above 1. One division, for either order of two.
    return max(-1.0, min(1.0, dot / (math.sqrt(left) * math.sqrt(right))))


def _of_pair(parts: Sequence[Products], a: int, b: int) -> dict[str, Any]:
    agree = sum(int(part.agree[a, b]) for part in parts)
    both = sum(int(part.both[a, b]) for part in parts)
    return {
        "numel": sum(part.numel for part in parts),
        "cosine": cosine_of(parts, a, b),
        "sign_agreement": agree / both if both else None,
        "sign_conflict": (both - agree) / both if both else None,
    }


def _overlap(parts: Sequence[Products], density: int, a: int, b: int) -> dict[str, float | None]:
    common, left, right = (
        sum(int(part.masks.shared[density, i, j]) for part in parts)
        for i, j in ((a, b), (a, a), (b, b))
    )
    mean = math.sqrt(left * right)
    numel = sum(part.numel for part in parts)
    return {
        "overlap": common / mean if mean else None,
        "overlap_by_chance": mean / numel if numel else None,
    }
