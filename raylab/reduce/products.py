"""What one tile says of all pairs of models: inner products, signs and masks.

Model: the deltas of N models over one tile are the rows of a matrix X (N, entries). Inner products
are X X^T in float64, counts those of bits (`raylab.reduce.bit_planes`) on a CPU, or products of
matrices of -1, 0 and 1 on a GPU. Inner products that follow from factors are not taken here
(`raylab.reduce.factor_products`).
Invariant: products are taken over slices whose bounds depend on the tensor alone, and added in
their order: the same bits for any shards and threads. Counts are exact: on a GPU they are integers
below 2^24.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from raylab.reduce import group_counts, kept_signs
from raylab.reduce.bit_planes import add_pairs, planes_of
from raylab.reduce.dot_products import dot_products
from raylab.reduce.histogram import INFINITY
from raylab.reduce.lora_product import ProductRows
from raylab.reduce.masks import ALL_PAIRS, Deltas, Limits, Masks, Related, on_host

_SLICE = 1 << 16
_SLICE_OF_GPU = 1 << 20


@dataclass
class Products:
    """Of one tensor, for N models: dot float64 (N, N); agree, both int64 (N, N); the masks at each
    density. `touched` says which of the models change the tensor; `by_factors`, bool (N, N), which
    of the products are those of factors. On a GPU they are torch tensors there, until `on_host`
    brings them back."""

    numel: int
    touched: np.ndarray
    dot: Any
    agree: Any
    both: Any
    masks: Masks
    by_factors: np.ndarray

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
        return replace(self, dot=dot, agree=agree, both=both, masks=self.masks.on_host())


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
    numel: int,
    deltas: Deltas,
    limits: Limits,
    related: Related = ALL_PAIRS,
    dots: np.ndarray | None = None,
) -> Products:
    """The products of one tile of `numel` entries, with masks at the thresholds of `limits`; zeros
    stand for the pairs that are not asked for. dots: bool (N, N), the inner products to take, where
    these are not those of all pairs."""
    count, densities = len(deltas), len(next(iter(limits.values()), ()))
    rows = list(deltas.values())
    groups, kin = related.places(deltas), related.places_of_kin(deltas)
    known = [each for each in rows if each is not None]
    device = next((r.device for r in known if isinstance(r, torch.Tensor)), torch.device("cpu"))
    wanted = related.pairs(deltas) if dots is None else dots
    dot = torch.zeros((count, count), dtype=torch.float64, device=device)
    counts = torch.zeros((2 + densities, count, count), dtype=torch.int64, device=device)
    kept = torch.zeros((densities, group_counts.width_of(groups)), dtype=torch.int64, device=device)
    signs = torch.zeros((densities, len(kin), 2), dtype=torch.int64, device=device)
    found = Products(
        numel=numel,
        touched=np.array([each is not None for each in rows]),
        dot=dot,
        agree=counts[1],
        both=counts[0],
        masks=Masks(counts[2:], kept, signs),
        by_factors=np.zeros((count, count), dtype=np.bool_),
    )
    if not known:
        return found.on_host() if device.type == "cpu" else found
    if device.type != "cpu":
        _multiply_on_gpu(found, rows, limits, (groups, kin), wanted)
        return found
    _add_dots(found.dot, numel, rows, wanted)
    planes = planes_of(rows, list(limits.values()))
    add_pairs(planes, related.chosen(deltas), counts.numpy())
    group_counts.add_planes(kept.numpy(), planes, numel, groups)
    kept_signs.add_planes(signs.numpy(), planes, kin)
    return found.on_host()


Rows = Sequence[torch.Tensor | ProductRows | None]


def _add_dots(dot: torch.Tensor, numel: int, rows: Rows, wanted: np.ndarray) -> None:
    """Add the inner products that are wanted."""
    places = np.flatnonzero(wanted.any(axis=1))
    some = wanted[np.ix_(places, places)]
    dense = [r.values() if isinstance(r := rows[at], ProductRows) else r for at in places.tolist()]
    for part in _slices(numel, dense, _SLICE):
        # A look at the products is cheaper than one at the rows.
        found = dot_products(part, some)
        if not torch.isfinite(found).all():
            found = dot_products(_finite(part), some)
        dot[np.ix_(places, places)] += found


def _finite(rows: torch.Tensor) -> torch.Tensor:
    """`rows` with zeros for entries that are not finite.

    Such an entry was an error when the rows were measured, unless the user said to leave it out.
    """
    return torch.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)


def _slices(numel: int, rows: Sequence[torch.Tensor | None], most: int) -> Iterator[torch.Tensor]:
    """float32 (N, entries) of the models one below the other, zeros where one has no rows; none
    where no model changes the tile."""
    known = [each for each in rows if each is not None]
    if not known:
        return
    flat = [None if each is None else each.reshape(-1) for each in rows]
    for start in range(0, numel, most):
        stop = min(numel, start + most)
        nothing = torch.zeros(stop - start, device=known[0].device)
        yield torch.stack([nothing if each is None else each[start:stop] for each in flat])


def _multiply_on_gpu(
    found: Products,
    rows: Rows,
    limits: Limits,
    places: tuple[group_counts.Groups, kept_signs.Kin],
    wanted: np.ndarray,
) -> None:
    """The same by torch operations; places: of groups and kin."""
    dense = [each for each in rows if not isinstance(each, ProductRows)]
    assert len(dense) == len(rows), "products are formed on a GPU"
    by_model = torch.tensor([list(own) for own in limits.values()], dtype=torch.int32)
    bounds = by_model.reshape(len(limits), -1).T.unsqueeze(2).to(found.dot.device)
    for part in _slices(found.numel, dense, _SLICE_OF_GPU):
        finite = _finite(part)
        if wanted.any():
            wide = finite.to(torch.float64)
            found.dot += wide @ wide.T
        signs = torch.sign(finite)
        equal, nonzero = _multiplied(signs), _multiplied(signs.abs())
        found.agree += (nonzero + equal) // 2
        found.both += nonzero
        bits = part.view(torch.int32) & 0x7FFFFFFF
        for shared, bound in zip(found.masks.shared, bounds, strict=True):
            mask = (bits >= bound) & (bits > 0) & (bits < INFINITY)
            shared += _multiplied(mask.to(torch.float32))
        group_counts.add_rows(found.masks.kept, part, bounds, places[0])
        kept_signs.add_rows(found.masks.signs, part, bounds, places[1])


def _multiplied(rows: torch.Tensor) -> torch.Tensor:
    """int64 (N, N): products of rows of -1, 0 and 1, integers below 2^24, which are exact in
    float32."""
    return (rows @ rows.T).to(torch.int64)
