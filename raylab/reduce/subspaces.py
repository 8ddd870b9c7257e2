"""Whether two models change the same directions: principal angles between their subspaces.

Model: a delta writes into the space of its left singular vectors (the output side) and reads from
that of its right ones (the input side). With orthonormal bases P and Q of two models' spaces of
one side, of k_a and k_b directions, the singular values of P^T Q are the cosines of the principal
angles (Bjorck & Golub 1973), and

    overlap      = |P^T Q|_F^2 / min(k_a, k_b), the mean squared cosine; phi of the LoRA paper
                   (Hu et al. 2021, arXiv:2106.09685, equation 4)
    chance       = max(k_a, k_b) / n, its expectation for random spaces of an n-dimensional one
    interference = |U_a^T U_b S_b V_b^T V_a|_1 + |U_b^T U_a S_a V_a^T V_b|_1, entry by entry: the
                   singular task interference of two models (Gargiulo et al. 2024,
                   arXiv:2412.00081, equation 4)

Two sizes of the spaces are taken: all directions of either delta (energy 1), and the k that holds
90 % of the energy of that delta which needs fewer (energy 0.9), the same k for both.
Invariant: out of factors where a delta has them (`raylab.reduce.low_rank`), so no delta is formed.
Products of two models depend on the two alone: the same pair has the same bits beside any others.
A delta of zeros has no directions, and its pairs are not among those of the tensor.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raylab.reduce.low_rank import Directions, directions_of_factors, leading_directions
from raylab.weights.names import levels
from raylab.weights.row_tiles import in_threads, one_blas_thread
from raylab.weights.views import ViewedModel

ENERGIES = (1.0, 0.9)
SIDES = ("output", "input")
_MEASURES = ("overlap", "angle_median", "angle_first", "chance")
_OF_PAIR = ("interference", "share")


@dataclass
class TensorSubspaces:
    """One tensor's pairs of models, P of them.

    pairs: int64 (P, 2), the models by index; k: int64 (P, energies); sides: float64 (P, energies,
    sides, 4), the measures of a side; both: float64 (P, energies, 2), interference and the smaller
    share of energy that k directions hold.
    """

    pairs: np.ndarray
    k: np.ndarray
    sides: np.ndarray
    both: np.ndarray


def subspaces_of(
    models: Mapping[str, ViewedModel],
    names: Sequence[str],
    fresh: Collection[str] | None = None,
    threads: int = 1,
) -> dict[str, TensorSubspaces]:
    """The subspaces of all pairs of `models` in each tensor, or of those with a model of `fresh`;
    a tensor in which no two models have directions is left out.

    The models are shown as task vectors (the view `delta`). A tensor is the work of one thread.
    Raises NonFiniteError, ModelError.
    """
    found: dict[str, TensorSubspaces] = {}

    def one(name: str) -> None:
        made = [directions_of(model, name) for model in models.values()]
        there = {index: own for index, own in enumerate(made) if own and own.rank}
        keys = list(models)
        pairs = [
            (a, b)
            for a, b in itertools.combinations(there, 2)
            if fresh is None or keys[a] in fresh or keys[b] in fresh
        ]
        found[name] = _related(there, pairs)

    in_threads(names, one, threads)
    return {name: found[name] for name in names if len(found[name].pairs)}


def _related(found: Mapping[int, Directions], pairs: Sequence[tuple[int, int]]) -> TensorSubspaces:
    """The measures of `pairs` of models, which are named by their index, in one tensor."""
    size = (len(pairs), len(ENERGIES))
    made = TensorSubspaces(
        pairs=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        k=np.zeros(size, dtype=np.int64),
        sides=np.zeros((*size, len(SIDES), len(_MEASURES))),
        both=np.zeros((*size, len(_OF_PAIR))),
    )
    cosines = _Cosines()
    with one_blas_thread():
        for row, (a, b) in enumerate(pairs):
            bases = [(_of_side(found[a], side), _of_side(found[b], side)) for side in SIDES]
            products = [first.T @ second for first, second in bases]
            for place, energy in enumerate(ENERGIES):
                _measure(made, (row, place), (found[a], found[b]), products, energy, cosines)
        cosines.put(made)
    return made


def directions_of(model: ViewedModel, name: str) -> Directions | None:
    """The directions of a model's delta; None for a tensor that it leaves alone or no matrix."""
    shape = model.shapes.get(name, ())
    if len(shape) != 2:
        return None
    if factors := model.plain_factors(name):
        return directions_of_factors([(f.down, f.up, f.scale) for f in factors], name)

    def rows_of(start: int, stop: int) -> torch.Tensor:
        rows = model.delta(name, start, stop)
        assert rows is not None, "a tensor with a shape is changed"
        return rows

    return leading_directions(rows_of, shape, name)


def _of_side(directions: Directions, side: str) -> torch.Tensor:
    basis: torch.Tensor = getattr(directions, side)
    return basis


def _measure(
    made: TensorSubspaces,
    at: tuple[int, int],
    models: tuple[Directions, Directions],
    products: Sequence[torch.Tensor],
    energy: float,
    cosines: _Cosines,
) -> None:
    """Fill in one pair at one energy, but for the angles."""
    a, b = models
    sizes = (a.rank, b.rank)
    if energy < 1:
        sizes = (min(model.rank_for(energy) for model in models),) * 2
    cut = [product[: sizes[0], : sizes[1]] for product in products]
    made.k[at] = min(sizes)
    for side, product in enumerate(cut):
        # The sum of squares of orthonormal directions can be 2e-16 above what it can be at most.
        overlap = min(1.0, float(product.square().sum()) / min(sizes))
        length = len(_of_side(a, SIDES[side]))
        made.sides[(*at, side, 0)], made.sides[(*at, side, 3)] = overlap, max(sizes) / length
        cosines.add((*at, side), product)
    output, input_ = cut
    to_a = output * b.values[: sizes[1]] @ input_.T
    to_b = output.T * a.values[: sizes[0]] @ input_
    held = [model.held(size) for model, size in zip(models, sizes, strict=True)]
    made.both[at] = float(to_a.abs().sum() + to_b.abs().sum()), min(held)


class _Cosines:
    """The products whose singular values are cosines of principal angles, by their shape, so that
    those of one shape are decomposed in one call."""

    def __init__(self) -> None:
        self._by_shape: dict[tuple[int, ...], list[tuple[Any, torch.Tensor]]] = defaultdict(list)

    def add(self, at: tuple[int, int, int], product: torch.Tensor) -> None:
        """Remember a product, and where its angles belong."""
        self._by_shape[tuple(product.shape)].append((at, product))

    def put(self, made: TensorSubspaces) -> None:
        """Write the angles, in degrees."""
        for found in self._by_shape.values():
            cosines = torch.linalg.svdvals(torch.stack([product for _, product in found]))
            angles = torch.rad2deg(torch.arccos(cosines.clamp(max=1.0))).numpy()
            for (at, _), own in zip(found, angles, strict=True):
                made.sides[(*at, 1)], made.sides[(*at, 2)] = np.median(own), own.min()


def subspace_rows(
    keys: Sequence[str],
    tensors: Mapping[str, TensorSubspaces],
    fresh: Collection[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of the table `subspaces` for every pair of `keys`, or every one with a model of `fresh`,
    by level, key, energy and side; a level's values are means over its tensors, and its k is the
    (lower) median. A pair without a common matrix has no row."""
    rows = {
        name: {(int(a), int(b)): row for row, (a, b) in enumerate(found.pairs)}
        for name, found in tensors.items()
    }
    for a, b in itertools.combinations(range(len(keys)), 2):
        if fresh is not None and keys[a] not in fresh and keys[b] not in fresh:
            continue
        common = [name for name in tensors if (a, b) in rows[name]]
        for level, key, members in levels(common) if common else ():
            parts = [(tensors[name], rows[name][a, b]) for name in members]
            yield from _level_rows({"a": keys[a], "b": keys[b], "level": level, "key": key}, parts)


def _level_rows(
    common: Mapping[str, Any], parts: Sequence[tuple[TensorSubspaces, int]]
) -> Iterator[dict[str, Any]]:
    k = np.sort([found.k[row] for found, row in parts], axis=0)[(len(parts) - 1) // 2]
    sides = np.mean([found.sides[row] for found, row in parts], axis=0)
    both = np.mean([found.both[row] for found, row in parts], axis=0)
    for place, energy in enumerate(ENERGIES):
        for side, name in enumerate(SIDES):
            yield {
                **common,
                "side": name,
                "energy": energy,
                "k": int(k[place]),
                **dict(zip(_MEASURES, map(float, sides[place, side]), strict=True)),
                **dict(zip(_OF_PAIR, map(float, both[place]), strict=True)),
                "tensors": len(parts),
            }
