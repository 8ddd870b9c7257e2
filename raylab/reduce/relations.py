"""How the task vectors of all pairs of models relate: cosine, signs, overlap of masks.

Model: the deltas of N models over one tile are the rows of a matrix X (N, entries). Three kinds
of products X X^T, over float64 values, over signs, and over masks of the largest entries, answer
for all pairs at once, so that N models cost N reads and never N squared.

    cosine(a, b)         = <a, b> / (|a| |b|)
    sign_agreement       = entries where both are non-zero and of one sign / both non-zero
    overlap(a, b)        = |A and B| / sqrt(|A| |B|), A and B the masks at a density
    overlap_by_chance    = sqrt(|A| |B|) / numel, the expectation of independent masks

A mask keeps |delta| >= threshold and > 0, the threshold being that of the model's whole task
vector (the first step of TIES-Merging, Yadav et al. 2023, arXiv:2306.01708).
Invariant: products are taken over slices whose bounds depend on the tensor alone, and added in
their order: the same bits for any shards and threads. Counts are exact: products of signs and
masks are integers below 2^24.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from raylab.plan.shards import levels

_SLICE = 1 << 16


@dataclass
class Products:
    """Of one tensor, for N models and K densities: dot float64 (N, N); agree, both int64 (N, N);
    masks int64 (K, N, N). `touched` says which of the models change the tensor."""

    numel: int
    touched: np.ndarray
    dot: np.ndarray
    agree: np.ndarray
    both: np.ndarray
    masks: np.ndarray

    def __iadd__(self, other: Products) -> Products:
        self.numel += other.numel
        for mine, more in (
            (self.dot, other.dot),
            (self.agree, other.agree),
            (self.both, other.both),
            (self.masks, other.masks),
        ):
            mine += more
        return self


@dataclass
class Relation:
    """Products by tensor; those of further tiles and shards are added."""

    tensors: dict[str, Products] = field(default_factory=dict)

    def merge(self, other: Relation) -> None:
        """Take in more tiles, in the order of their rows, or other tensors."""
        for name, products in other.tensors.items():
            if name in self.tensors:
                self.tensors[name] += products
            else:
                self.tensors[name] = products


def relate_tile(
    name: str,
    numel: int,
    deltas: Mapping[str, torch.Tensor | None],
    thresholds: Mapping[str, Sequence[int]],
) -> Relation:
    """The products of one tile; `deltas` are float32 or None, `thresholds` magnitude bits."""
    keys = list(deltas)
    count, densities = len(keys), len(next(iter(thresholds.values()), ()))
    products = Products(
        numel,
        np.array([deltas[key] is not None for key in keys]),
        np.zeros((count, count)),
        np.zeros((count, count), dtype=np.int64),
        np.zeros((count, count), dtype=np.int64),
        np.zeros((densities, count, count), dtype=np.int64),
    )
    if products.touched.any():
        limits = torch.tensor([list(thresholds[key]) for key in keys], dtype=torch.int32)
        for start in range(0, numel, _SLICE):
            _add_slice(products, _stacked(deltas, start, min(numel, start + _SLICE)), limits)
    return Relation({name: products})


def _stacked(deltas: Mapping[str, torch.Tensor | None], start: int, stop: int) -> torch.Tensor:
    known = next(rows for rows in deltas.values() if rows is not None)
    nothing = torch.zeros(stop - start, device=known.device)
    return torch.stack(
        [nothing if rows is None else rows.reshape(-1)[start:stop] for rows in deltas.values()]
    )


def _add_slice(products: Products, rows: torch.Tensor, limits: torch.Tensor) -> None:
    """Add the products of float32 `rows` (N, entries); `limits` int32 (N, K).

    What is not finite counts as nothing: it was an error when the rows were measured, unless the
    user said to leave it out.
    """
    wide = rows.to(torch.float64)
    dot = (wide @ wide.T).cpu().numpy()
    if not np.isfinite(dot).all():
        finite = torch.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)
        _add_slice(products, finite, limits)
        return
    products.dot += dot
    signs = torch.sign(rows)
    equal, both = _product(signs), _product(signs.abs())
    products.agree += (both + equal) // 2
    products.both += both
    bits = rows.view(torch.int32) & 0x7FFFFFFF
    for index in range(limits.shape[1]):
        limit = limits[:, index : index + 1].to(bits.device)
        mask = (bits >= limit) & (bits > 0)
        products.masks[index] += _product(mask.to(torch.float32))


def _product(rows: torch.Tensor) -> np.ndarray:
    return (rows @ rows.T).cpu().numpy().astype(np.int64)


def relation_rows(
    keys: Sequence[str], relation: Relation, densities: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """Rows of the pairs table for every pair of `keys`, level, key and density."""
    for first, second in itertools.combinations(range(len(keys)), 2):
        touched = [
            name
            for name, found in relation.tensors.items()
            if found.touched[first] or found.touched[second]
        ]
        for level, key, members in levels(touched):
            if level == "tensor":
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


def _of_pair(parts: Sequence[Products], a: int, b: int) -> dict[str, Any]:
    dot, left, right = (
        math.fsum(float(part.dot[i, j]) for part in parts) for i, j in ((a, b), (a, a), (b, b))
    )
    cosine = None
    if left > 0 and right > 0:
        # Of equal vectors the quotient can be 2e-16 above 1.
        cosine = max(-1.0, min(1.0, dot / math.sqrt(left) / math.sqrt(right)))
    agree = sum(int(part.agree[a, b]) for part in parts)
    both = sum(int(part.both[a, b]) for part in parts)
    return {
        "numel": sum(part.numel for part in parts),
        "cosine": cosine,
        "sign_agreement": agree / both if both else None,
        "sign_conflict": (both - agree) / both if both else None,
    }


def _overlap(parts: Sequence[Products], density: int, a: int, b: int) -> dict[str, float | None]:
    common, left, right = (
        sum(int(part.masks[density, i, j]) for part in parts) for i, j in ((a, b), (a, a), (b, b))
    )
    mean = math.sqrt(left * right)
    numel = sum(part.numel for part in parts)
    return {
        "overlap": common / mean if mean else None,
        "overlap_by_chance": mean / numel if numel else None,
    }
