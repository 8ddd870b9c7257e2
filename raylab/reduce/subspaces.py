"""Whether two models change the same directions: principal angles between their subspaces.

Model: a delta writes into the space of its left singular vectors (the output side) and reads from
that of its right ones (the input side). With orthonormal bases P and Q of two models' spaces of
one side, of k_a and k_b directions, the singular values of P^T Q are the cosines of the principal
angles (Bjorck & Golub 1973), and

    overlap      = |P^T Q|_F^2 / min(k_a, k_b), the mean squared cosine; phi of the LoRA paper
                   (Hu et al. 2021, arXiv:2106.09685, equation 4), which `phi` holds for the first
                   i directions of a and the first j of b
    chance       = max(k_a, k_b) / n, its expectation for random spaces of an n-dimensional one
    interference = |U_a^T U_b S_b V_b^T V_a|_1 + |U_b^T U_a S_a V_a^T V_b|_1, entry by entry: the
                   singular task interference of two models (Gargiulo et al. 2024,
                   arXiv:2412.00081, equation 4)

Two sizes of the spaces are taken: all directions of either delta (energy 1), and the k that holds
90 % of the energy of that delta which needs fewer (energy 0.9), the same k for both.
Invariant: out of factors where a delta has them (`raylab.reduce.low_rank`), so no delta is formed.
Products of two models depend on the two alone: the same pair has the same bits beside any others,
in either order.
A delta of zeros has no directions, and its pairs are not among those of the tensor.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
MOST_PHI = 16
"""The most directions of which phi is taken."""


@dataclass
class TensorSubspaces:
    """One tensor's pairs of models, P of them.

    pairs: int64 (P, 2), the models by index; k: int64 (P, energies); sides: float64 (P, energies,
    sides, 4), the measures of a side; both: float64 (P, energies, 2), interference and the smaller
    share of energy that k directions hold. phi: float64 (P, sides, i, j), phi of the first i and j
    directions of a pair's models, NaN beyond their ranks; None where not asked for.
    """

    pairs: np.ndarray
    k: np.ndarray
    sides: np.ndarray
    both: np.ndarray
    phi: np.ndarray | None = None


def subspaces_of(
    models: Mapping[str, ViewedModel],
    names: Sequence[str],
    fresh: Collection[str] | None = None,
    threads: int = 1,
    with_phi: bool = False,
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
        found[name] = _related(there, pairs, with_phi)

    in_threads(names, one, threads)
    return {name: found[name] for name in names if len(found[name].pairs)}


def _related(
    found: Mapping[int, Directions], pairs: Sequence[tuple[int, int]], with_phi: bool
) -> TensorSubspaces:
    """The measures of `pairs` of models, which are named by their index, in one tensor."""
    size = (len(pairs), len(ENERGIES))
    made = TensorSubspaces(
        pairs=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        k=np.zeros(size, dtype=np.int64),
        sides=np.zeros((*size, len(SIDES), len(_MEASURES))),
        both=np.zeros((*size, len(_OF_PAIR))),
    )
    # In an order that the two models decide, not their places among others: a transposed product
    # has other bits.
    values = {index: own.values.tolist() for index, own in found.items()}
    ordered = [(a, b) if values[a] <= values[b] else (b, a) for a, b in pairs]
    with one_blas_thread():
        # One product for each pair: the bits of a product of more models would depend on them.
        output = [(found[a].output.T @ found[b].output).numpy() for a, b in ordered]
        input_ = [(found[a].input.T @ found[b].input).numpy() for a, b in ordered]
    if with_phi:
        is_turned = [pair != own for pair, own in zip(pairs, ordered, strict=True)]
        made.phi = _phi((output, input_), is_turned)
    for place, energy in enumerate(ENERGIES):
        by_sizes: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, (a, b) in enumerate(ordered):
            by_sizes[_sizes(found[a], found[b], energy)].append(row)
        for (first, second), rows in by_sizes.items():
            cut = [np.stack([p[row][:first, :second] for row in rows]) for p in (output, input_)]
            models = [(found[ordered[row][0]], found[ordered[row][1]]) for row in rows]
            at = np.array(rows), place
            made.k[at] = min(first, second)
            for side, products in enumerate(cut):
                length = len(getattr(models[0][0], SIDES[side]))
                made.sides[(*at, side)] = _side(products, max(first, second) / length)
            made.both[at] = _both(cut, models)
    return made


def _phi(products: Sequence[Sequence[np.ndarray]], is_turned: Sequence[bool]) -> np.ndarray:
    """phi (P, sides, i, j) of the products P^T Q of both sides; where a pair `is_turned`, they are
    those of its second model and its first."""
    size = min(MOST_PHI, max((max(p.shape) for p in products[0]), default=0))
    found = np.full((len(is_turned), len(SIDES), size, size), np.nan)
    for side, of_side in enumerate(products):
        for row, (product, turned) in enumerate(zip(of_side, is_turned, strict=True)):
            squares = np.square(product[:size, :size]).cumsum(axis=0).cumsum(axis=1)
            first, second = np.indices(squares.shape) + 1
            # Of orthonormal directions the quotient can be 2e-16 above what it can be at most.
            own = np.minimum(squares / np.minimum(first, second), 1.0)
            own = own.T if turned else own
            found[row, side, : own.shape[0], : own.shape[1]] = own
    return found


def _sizes(a: Directions, b: Directions, energy: float) -> tuple[int, int]:
    """How many directions of either are compared."""
    if energy == 1:
        return a.rank, b.rank
    k = min(a.rank_for(energy), b.rank_for(energy))
    return k, k


def _side(products: np.ndarray, chance: float) -> np.ndarray:
    """The measures (P, 4) of one side, whose products P^T Q are (P, k_a, k_b)."""
    count, size = len(products), min(products.shape[1:])
    squares = np.square(products).reshape(count, -1).sum(axis=1) / size
    cosines = np.minimum(np.linalg.svd(products, compute_uv=False), 1.0)
    angles = np.degrees(np.arccos(cosines))
    # The sum of squares of orthonormal directions can be 2e-16 above what it can be at most.
    overlap = np.minimum(squares, 1.0)
    return np.stack(
        [overlap, np.median(angles, axis=1), angles[:, 0], np.full(count, chance)], axis=1
    )


def _both(
    products: Sequence[np.ndarray], models: Sequence[tuple[Directions, Directions]]
) -> np.ndarray:
    """(P, 2): the interference of either pair, and the smaller share of energy that is held."""
    output, input_ = products
    _, first, second = output.shape
    of_a = np.stack([a.values[:first].numpy() for a, _ in models])
    of_b = np.stack([b.values[:second].numpy() for _, b in models])
    to_a = (output * of_b[:, None]) @ input_.transpose(0, 2, 1)
    to_b = (output.transpose(0, 2, 1) * of_a[:, None]) @ input_
    sums = [np.abs(part).reshape(len(models), -1).sum(axis=1) for part in (to_a, to_b)]
    held = [min(a.held(first), b.held(second)) for a, b in models]
    return np.stack([sums[0] + sums[1], held], axis=1)


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
        names = tuple(name for name in tensors if (a, b) in rows[name])
        if names:
            of_pair = [(tensors[name], rows[name][a, b]) for name in names]
            common = {"a": keys[a], "b": keys[b]}
            yield from _rows_of_pair(common, of_pair, _levels_of(names))


def _rows_of_pair(
    common: Mapping[str, Any],
    parts: Sequence[tuple[TensorSubspaces, int]],
    groups: Sequence[tuple[str, str, np.ndarray]],
) -> Iterator[dict[str, Any]]:
    k, sides, both = (
        np.stack([getattr(found, part)[row] for found, row in parts])
        for part in ("k", "sides", "both")
    )
    for level, key, members in groups:
        middle = np.sort(k[members], axis=0)[(len(members) - 1) // 2].tolist()
        of_sides = sides[members].mean(axis=0).tolist()
        of_both = both[members].mean(axis=0).tolist()
        for place, energy in enumerate(ENERGIES):
            for side, measures in zip(SIDES, of_sides[place], strict=True):
                yield {
                    **common,
                    "level": level,
                    "key": key,
                    "side": side,
                    "energy": energy,
                    "k": middle[place],
                    **dict(zip(_MEASURES, measures, strict=True)),
                    **dict(zip(_OF_PAIR, of_both[place], strict=True)),
                    "tensors": len(members),
                }


@lru_cache(maxsize=8)
def _levels_of(names: tuple[str, ...]) -> list[tuple[str, str, np.ndarray]]:
    """(level, key, the members by their place in `names`); most pairs have the same names."""
    places = {name: place for place, name in enumerate(names)}
    return [
        (level, key, np.array([places[name] for name in members]))
        for level, key, members in levels(names)
    ]
