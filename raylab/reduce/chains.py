"""Chained trials: the parent's part of a task vector, the child's, and the whole.

Model: the delta of a chained trial is parent + child in float32, where the parent's part is the
sum of all its ancestors' deltas (ViewedModel.delta adds from the oldest on). Per tensor four sums,
<p, p>, <p, c>, <c, c> and <w, w> with w = p + c rounded to float32, say how long each is, how
they lie to each other, and how much of them cancels:

    cosine       = <p, c> / (|p| |c|)        null where either is zero
    cancellation = 1 - |w| / (|p| + |c|)     0: one direction, 1: nothing is left; null: no delta

|w| is the L2 that the table `norms` gives for the trial against its base model.
Invariant: products of float32 are exact in float64; they are added in pieces of tiles whose
bounds depend on the tensor alone, in one BLAS thread, and the sums of tiles, tensors and groups
with math.fsum, which is exact: the same bits for any shards, threads and order. Results of
shards are dictionaries of disjoint tensors: `{**one, **other}` merges them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch

from raylab.errors import ModelError, NonFiniteError
from raylab.weights import Shape
from raylab.weights.names import levels
from raylab.weights.row_tiles import one_blas_thread, tiles
from raylab.weights.views import ViewedModel

_PIECE = 1 << 15  # entries whose float64 copies stay in a core's own cache


@dataclass(frozen=True)
class ChainSums:
    """Inner products over one tensor or a group, float64: whole is that of p + c with itself."""

    parent: float
    cross: float
    child: float
    whole: float


def chain_parts(
    parent: ViewedModel, child: ViewedModel, names: Iterable[str]
) -> dict[str, ChainSums]:
    """The sums of each tensor of `names` that either side changes.

    `parent` holds all ancestors, `child` the trial's own adapter alone, both under the view
    delta. Raises ModelError, NonFiniteError (names the tensor).
    """
    shapes = {name: shape for name in names if (shape := _shape(parent, child, name)) is not None}
    with one_blas_thread():
        return {name: _sums(parent, child, name, shape) for name, shape in shapes.items()}


def _shape(parent: ViewedModel, child: ViewedModel, name: str) -> Shape | None:
    p, c = parent.shapes.get(name), child.shapes.get(name)
    if p is not None and c is not None and p != c:
        raise ModelError(
            f"{name} has two shapes",
            found=f"{p} in the parent, {c} in the child",
            expected="adapters of one base model",
        )
    return c if p is None else p


def _sums(parent: ViewedModel, child: ViewedModel, name: str, shape: Shape) -> ChainSums:
    found = []
    for start, stop in tiles(shape):
        p, c = (_delta(side, name, start, stop, shape) for side in (parent, child))
        found.append(inner_products((p, c, p + c), ((0, 0), (0, 1), (1, 1), (2, 2))))
        if not all(map(math.isfinite, found[-1])):
            raise NonFiniteError(f"the delta of {name} is not finite", expected="numbers")
    return ChainSums(*(math.fsum(parts) for parts in zip(*found, strict=True)))


def _delta(side: ViewedModel, name: str, start: int, stop: int, shape: Shape) -> torch.Tensor:
    rows = side.delta(name, start, stop)
    columns = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
    return torch.zeros(stop - start, columns) if rows is None else rows


def inner_products(
    vectors: Sequence[torch.Tensor], pairs: Sequence[tuple[int, int]]
) -> list[float]:
    """<vectors[i], vectors[j]> in float64 for each of `pairs`; the vectors have one shape.

    Call it within `one_blas_thread`, so that its bits do not depend on the threads. Entries
    that are not finite make the result so.
    """
    totals = torch.zeros(len(pairs), dtype=torch.float64, device=vectors[0].device)
    for parts in pieces(*vectors):
        wide = [part.double() for part in parts]
        totals += torch.stack([torch.dot(wide[i], wide[j]) for i, j in pairs])
    found: list[float] = totals.tolist()
    return found


def pieces(*vectors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same entries of each of `vectors`, flat, 2^15 at a time; they have one shape."""
    return zip(*(vector.reshape(-1).split(_PIECE) for vector in vectors), strict=True)


def chain_rows(model: str, sums: Mapping[str, ChainSums]) -> list[dict[str, Any]]:
    """Rows of the table `chains` for the whole, every layer, module kind and tensor."""
    return [
        {"model": model, "level": level, "key": key, **_row([sums[name] for name in members])}
        for level, key, members in levels(sums)
    ]


def _row(members: list[ChainSums]) -> dict[str, float | None]:
    columns = list(zip(*map(astuple, members), strict=True)) or [()] * 4
    parent, cross, child, whole = map(math.fsum, columns)
    l2_parent, l2_child, l2 = map(math.sqrt, (parent, child, whole))
    cosine = cancellation = None
    if l2_parent > 0 and l2_child > 0:
        cosine = max(-1.0, min(1.0, cross / (l2_parent * l2_child)))
    if l2_parent + l2_child > 0:
        # Rounding p + c to float32 can make the whole 1e-7 longer than its parts.
        cancellation = max(0.0, 1 - l2 / (l2_parent + l2_child))
    return {
        "l2_parent": l2_parent,
        "l2_child": l2_child,
        "l2": l2,
        "cosine": cosine,
        "cancellation": cancellation,
    }
