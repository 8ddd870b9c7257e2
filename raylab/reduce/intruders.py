"""Deltas against the base model's own singular vectors: intruders, and shares of the delta.

Model: with W = U S V^T the base model's tensor, and D the delta of a model, out of its factors,

    intruder     one of the `top` left singular vectors y_j of W + D, the largest values first, with
                 max_i |u_i^T y_j| < epsilon over all u_i: an intruder dimension (Shuttleworth et
                 al. 2024, arXiv:2410.21228, whose code compares left singular vectors)
    share_left   |U_k^T D|_F^2 / |D|_F^2, U_k the `top` left singular vectors of W
    share_right  |D V_k|_F^2 / |D|_F^2, V_k the right ones: whether training keeps to W's principal
                 directions (the question of Zhu et al. 2025, arXiv:2511.08567)

A direction drawn at random has k / rows and k / columns of itself in U_k and V_k. With Q the
vectors of the shorter side and D = short long^T, long orthonormal (the transposes of both where W
is tall), the coordinates z_j = Q^T y_j on that side are the leading eigenvectors of

    S^2 + inner inner^T + inner cross^T + cross inner^T,  inner = Q^T short, cross = Q^T W long,

so that W + D is never formed; the longer side's cosines are (s_i z_ij + cross_i inner^T z_j / s_i)
over the j-th singular value of W + D.
Invariant: everything is float64 in one BLAS thread, one product for each model: the same bits for
any threads, any shards and beside any other models. A singular value below NEGLIGIBLE of the
largest is zero, and its vectors are no directions. Where singular values of W are equal, their
vectors are any basis of one space, and the count rests on which one the decomposition gives, as it
does in the paper. A delta of zeros has no shares and no intruders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from raylab.reduce.decomposition import NEGLIGIBLE, Decomposition, ShortSide, decomposition_of
from raylab.reduce.leading_vectors import leading_vectors
from raylab.reduce.low_rank import Directions, directions_of_factors
from raylab.reduce.row_block import Models
from raylab.spec.spectra import BaseDirections
from raylab.store.filesystem import Store
from raylab.weights.row_tiles import one_blas_thread


@dataclass(frozen=True)
class BaseSums:
    """One delta in one tensor of `rows` x `columns`.

    energy: |D|_F^2. left, right: how much of it lies in W's top left and right singular vectors.
    directions: how many of the top singular vectors W + D has. intruders: those of them without a
    counterpart.
    """

    rows: int
    columns: int
    energy: float
    left: float
    right: float
    directions: int
    intruders: int


Found = dict[str, dict[str, BaseSums]]
"""By model and tensor."""


def held_against_base(
    models: Models, names: Sequence[str], asked: Mapping[str, Any], out: str | None, content: str
) -> Found:
    """The sums of the trained models, shown as task vectors, in the matrices `names` of the base
    model.

    asked: the fields of BaseDirections. out: the store that keeps decompositions, where there is
    one; content: a fingerprint of the base model. A delta without factors (DoRA, a module saved
    whole, a checkpoint) has no sums, nor has any without the base model's weights. Raises
    ModelError, NonFiniteError, StoreError.
    """
    found: Found = {}
    base, directions, store = models.weights, BaseDirections(**asked), Store(out) if out else None
    for name in names:
        with one_blas_thread():
            deltas = _deltas(models, name)
            if base is None or not deltas:
                continue
            side = ShortSide.of(base, name)
            decomposed = decomposition_of(side, name, store, content)
            for key, delta in deltas.items():
                found.setdefault(key, {})[name] = base_sums(delta, side, decomposed, directions)
    return found


def _deltas(models: Models, name: str) -> dict[str, Directions]:
    """The directions of each trained model's delta of one matrix, where it has factors."""
    found = {}
    for key in models.trained:
        model = models.sides[key]
        if len(model.shapes.get(name, ())) == 2 and (factors := model.plain_factors(name)):
            terms = [(factor.down, factor.up, factor.scale) for factor in factors]
            found[key] = directions_of_factors(terms, name)
    return found


def base_sums(
    delta: Directions, side: ShortSide, base: Decomposition, asked: BaseDirections
) -> BaseSums:
    """One delta against one matrix, seen from its shorter side, and its decomposition."""
    rows, columns = len(delta.output), len(delta.input)
    top = min(asked.top, rows, columns)
    if not delta.rank:
        return BaseSums(rows, columns, 0.0, 0.0, 0.0, min(top, base.rank), 0)
    is_tall = rows > columns
    short, long = (delta.input, delta.output) if is_tall else (delta.output, delta.input)
    inner = base.vectors.T @ (short * delta.values)
    cross = base.vectors.T @ side.times(long)
    principal = min(top, base.rank)
    within = inner[:principal].square().sum()
    values = base.squares.sqrt()[:, None]
    across = (inner @ (cross[:principal] / values[:principal]).T).square().sum()
    left, right = (across, within) if is_tall else (within, across)
    squares, vectors = _with_delta(base, inner, cross, top)
    there = squares > NEGLIGIBLE**2 * squares[0]
    cosines = vectors[: base.rank, there]
    if is_tall:
        known = values[: base.rank]
        turned = cross[: base.rank] @ (inner.T @ vectors[:, there])
        cosines = (known * cosines + turned / known) / squares[there].sqrt()
    nearest = cosines.abs().amax(dim=0) if base.rank else torch.zeros(int(there.sum()))
    return BaseSums(
        rows=rows,
        columns=columns,
        energy=delta.energy,
        left=float(left),
        right=float(right),
        directions=int(there.sum()),
        intruders=int((nearest < asked.epsilon).sum()),
    )


def _with_delta(
    base: Decomposition, inner: torch.Tensor, cross: torch.Tensor, top: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `top` squared singular values of W + D, and their vectors on the shorter side in the
    coordinates of W's."""
    one = torch.eye(inner.shape[1], dtype=torch.float64)
    core = torch.cat([torch.cat([one, one]), torch.cat([one, torch.zeros_like(one)])], dim=1)
    return leading_vectors(base.squares, torch.cat([inner, cross], dim=1), core, top)
