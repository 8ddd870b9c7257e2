"""How the task vectors of all pairs of models relate: cosine, signs, overlap of masks.

Model: the deltas of N models over one tile are the rows of a matrix X (N, entries). Three kinds
of products X X^T, over float64 values, over signs, and over masks of the largest entries, answer
for all pairs at once, so that N models cost N reads and never N squared.

    cosine(a, b)         = <a, b> / (|a| |b|)
    sign_agreement       = entries where both are non-zero and of one sign / both non-zero
    overlap(a, b)        = |A and B| / sqrt(|A| |B|), A and B the masks at a density
    overlap_by_chance    = sqrt(|A| |B|) / numel, the expectation of independent masks

A mask keeps |delta| >= threshold and > 0, the threshold being that of the model's whole task
vector (the first step of TIES-Merging, Yadav et al. 2023, arXiv:2306.01708). Masks of one model
are nested: two thresholds of equal counts have equal masks.
Invariant: products are taken over slices whose bounds depend on the tensor alone, and added in
their order: the same bits for any shards and threads. Counts are exact: products of signs and
masks are integers below 2^24.
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
from raylab.reduce.histogram import INFINITY
from raylab.weights.names import levels

_SLICE = 1 << 16
_SLICE_OF_GPU = 1 << 20

Deltas = Mapping[str, torch.Tensor | None]
"""By model: float32 rows of its task vector; None where it does not change the tensor."""
Limits = Mapping[str, Sequence[int]]
"""By model: the magnitude bits of its threshold at each density."""
Masks = np.ndarray
"""int64 (K, N, N): how many entries the masks of two models share, at each density."""


@dataclass
class Products:
    """Of one tensor, for N models and K densities: dot float64 (N, N); agree, both int64 (N, N);
    masks int64 (K, N, N). `touched` says which of the models change the tensor. On a GPU they are
    torch tensors there, until `on_host` brings them back."""

    numel: int
    touched: np.ndarray
    dot: Any
    agree: Any
    both: Any
    masks: Any

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

    def on_host(self) -> Products:
        """The same as arrays."""
        parts = (self.dot, self.agree, self.both, self.masks)
        return Products(self.numel, self.touched, *map(on_host, parts))


@dataclass
class Relation:
    """Products by tensor; other shards have other tensors."""

    tensors: dict[str, Products] = field(default_factory=dict)

    def merge(self, other: Relation) -> None:
        """Take in other tensors."""
        self.tensors.update(other.tensors)

    def kept(self, model: int, density: int) -> int:
        """How many entries the mask of one model keeps at one density, both by index."""
        return sum(int(part.masks[density, model, model]) for part in self.tensors.values())

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
    numel: int, deltas: Deltas, limits: Limits, fresh: frozenset[str] | None = None
) -> Products:
    """The products of one tile of `numel` entries, with masks at the thresholds of `limits`.

    fresh: only pairs with one of these models are asked for; zeros stand for the others.
    """
    device, count = _device(deltas), len(deltas)
    chosen = _chosen(deltas, fresh)
    touched = np.array([rows is not None for rows in deltas.values()])
    dot = torch.zeros((count, count), dtype=torch.float64, device=device)
    agree, both = (torch.zeros(dot.shape, dtype=torch.int64, device=device) for _ in range(2))
    masks, bits = _no_masks(limits, device), _limit_bits(limits, device)
    for rows in _slices(numel, deltas):
        finite, products = _dot_products(rows, chosen)
        dot += products
        signs = torch.sign(finite)
        equal, nonzero = _counts(signs, chosen), _counts(signs.abs(), chosen)
        agree += (nonzero + equal) // 2
        both += nonzero
        _add_masks(masks, rows, bits, chosen)
    found = Products(numel, touched, dot, agree, both, masks)
    return found.on_host() if device.type == "cpu" else found


def on_host(array: Any) -> np.ndarray:
    """`array` itself, or the values of a tensor."""
    found: np.ndarray = array.cpu().numpy() if isinstance(array, torch.Tensor) else array
    return found


def masks_of(
    numel: int, deltas: Deltas, limits: Limits, fresh: frozenset[str] | None = None
) -> Any:
    """The masks of one tile alone, as in `products_of`; on a GPU a torch tensor there."""
    device, chosen = _device(deltas), _chosen(deltas, fresh)
    found, bits = _no_masks(limits, device), _limit_bits(limits, device)
    for rows in _slices(numel, deltas):
        _add_masks(found, rows, bits, chosen)
    return found.numpy() if device.type == "cpu" else found


def _device(deltas: Deltas) -> torch.device:
    known = next((rows for rows in deltas.values() if rows is not None), None)
    return torch.device("cpu") if known is None else known.device


def _chosen(deltas: Deltas, fresh: frozenset[str] | None) -> np.ndarray:
    return np.array([fresh is None or key in fresh for key in deltas], dtype=np.bool_)


def _no_masks(limits: Limits, device: torch.device) -> torch.Tensor:
    densities = len(next(iter(limits.values()), ()))
    size = (densities, len(limits), len(limits))
    return torch.zeros(size, dtype=torch.int64, device=device)


def _limit_bits(limits: Limits, device: torch.device) -> torch.Tensor:
    """int32 (K, N, 1): the thresholds of all models at each density."""
    by_model = torch.tensor([list(own) for own in limits.values()], dtype=torch.int32)
    return by_model.reshape(len(limits), -1).T.unsqueeze(2).to(device)


def _slices(numel: int, deltas: Deltas) -> Iterator[torch.Tensor]:
    """float32 (N, entries) of the models one below the other, zeros where one has no rows; none
    where no model changes the tile."""
    if all(rows is None for rows in deltas.values()):
        return
    device = _device(deltas)
    most = _SLICE if device.type == "cpu" else _SLICE_OF_GPU
    flat = [None if rows is None else rows.reshape(-1) for rows in deltas.values()]
    for start in range(0, numel, most):
        stop = min(numel, start + most)
        nothing = torch.zeros(stop - start, device=device)
        yield torch.stack([nothing if rows is None else rows[start:stop] for rows in flat])


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


def _add_masks(
    masks: torch.Tensor, rows: torch.Tensor, limits: torch.Tensor, chosen: np.ndarray
) -> None:
    bits = rows.view(torch.int32) & 0x7FFFFFFF
    for kept, limit in zip(masks, limits, strict=True):
        mask = (bits >= limit) & (bits > 0) & (bits < INFINITY)
        kept += _counts(mask.to(torch.float32), chosen)


def _counts(rows: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
    """int64 (N, N): products of rows of -1, 0 and 1, integers below 2^24, which are exact in
    float32; those of a row with itself, and with the rows chosen."""
    if chosen.all():
        return (rows @ rows.T).to(torch.int64)
    found = torch.diag((rows * rows).sum(dim=1))
    places = torch.from_numpy(np.flatnonzero(chosen)).to(rows.device)
    some = rows[places] @ rows.T
    found[places] = some
    found[:, places] = some.T
    return found.to(torch.int64)


def whole_relation(relation: Relation, first: int, second: int) -> dict[str, Any]:
    """Cosine and signs of two whole task vectors."""
    return _of_pair(list(relation.tensors.values()), first, second)


def relation_rows(
    keys: Sequence[str],
    relation: Relation,
    densities: Sequence[float],
    fresh: frozenset[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of the pairs table for every pair of `keys`, or every one with a model of `fresh`,
    level, key and density."""
    for first, second in itertools.combinations(range(len(keys)), 2):
        if fresh is not None and fresh.isdisjoint((keys[first], keys[second])):
            continue
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
        # Of equal vectors the quotient can be 2e-16 above 1. One division, for either order of two.
        cosine = max(-1.0, min(1.0, dot / (math.sqrt(left) * math.sqrt(right))))
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
