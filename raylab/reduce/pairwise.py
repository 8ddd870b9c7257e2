"""How the task vectors of all pairs of models relate: cosine, signs, overlap of masks.

Model: all pairs of N models are taken at once, tile by tile (`raylab.reduce.relating`), so that N
models cost N reads and never N squared. The sums over tensors say

    cosine(a, b)         = <a, b> / (|a| |b|)
    sign_agreement       = entries where both are non-zero and of one sign / both non-zero
    overlap(a, b)        = |A and B| / sqrt(|A| |B|), A and B the masks at a density
    overlap_by_chance    = sqrt(|A| |B|) / numel, the expectation of independent masks

`raylab.reduce.masks` says what a mask keeps. Masks of one model are nested: two thresholds of
equal counts have equal masks.
Invariant: a row follows from the products of its two models alone, in either order of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raylab.weights.names import levels

if TYPE_CHECKING:
    from raylab.reduce.products import Products


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

    def has_masks(self, thresholds: Sequence[Sequence[tuple[int, int]]]) -> bool:
        """Whether the masks of all models keep as many entries as those at `thresholds`, by model
        (bits, entries) at each density: then they are the same."""
        return all(
            self.kept(model, index) == count
            for model, at in enumerate(thresholds)
            for index, (_, count) in enumerate(at)
        )


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
    cosine = cosine_of(parts, a, b)
    agree = sum(int(part.agree[a, b]) for part in parts)
    both = sum(int(part.both[a, b]) for part in parts)
    return {
        "numel": sum(part.numel for part in parts),
        "cosine": cosine,
        "cosine_from": None if cosine is None else _source(parts, a, b),
        "sign_agreement": agree / both if both else None,
        "sign_conflict": (both - agree) / both if both else None,
    }


def _source(parts: Sequence[Products], a: int, b: int) -> str:
    """What the inner products of two models are sums over."""
    by_factors = [bool(part.by_factors[a, b]) for part in parts]
    if all(by_factors):
        return "factors"
    return "both" if any(by_factors) else "entries"


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
