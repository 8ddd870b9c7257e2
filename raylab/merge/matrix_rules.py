"""Rules that combine task matrices by their singular vectors, or entry by entry.

Model: x_i = w_i M_i, with the task matrix M_i of one layer in model i, all float64 (rows, columns);
T models. A rule gives two factors whose product is the merged task matrix, before lambda. Rules but
`ties`, which looks at entries, turn with the matrices: Q M_i R give Q (left right) R, where Q and R
are orthonormal.

    tsv       the k largest singular vectors of every x_i, side by side, each side made orthonormal
              by the nearest such matrix (Procrustes), between them the singular values
              (Gargiulo et al. 2024, arXiv:2412.00081, algorithm 1; k = min(rows, columns) / T)
    iso_c     of the sum of the x_i the singular vectors, with their mean singular value
              (Marczak et al. 2025, arXiv:2502.04959, section 4.1)
    iso_cts   the largest singular vectors of the sum, and of what each x_i has outside of these the
              T-th part of the others; each side orthonormal; one mean singular value (section 4.2)
    ties      of every M_i the largest entries stay; x_i elect a sign, and those that have it are
              averaged (TIES-Merging: Yadav et al. 2023, arXiv:2306.01708)

The papers' matrices have full rank. Here a singular value that is zero to rounding has no vectors,
and counts in no mean: LAPACK's vectors of zero values are arbitrary. So a matrix of low rank gives
one result, whether it comes as factors or whole. In the same way vectors that depend on each other
are made orthonormal within what they span. An entry below 2^-40 of a matrix's largest is zero to
`ties`: rounding has no vote.
Invariant: the order of models changes rounding alone, and signs of singular vectors nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raylab.merge.compiled_steps import disjoint_merge
from raylab.reduce.threshold import num_keep
from raylab.spec.tensor_settings import TensorSettings

_ROUNDING = 2.0**-40
"""Of a matrix's largest entry: what is smaller is zero."""

Factors = tuple[torch.Tensor, torch.Tensor]
"""(rows, rank) and (rank, columns), float64."""


@dataclass(frozen=True)
class TaskMatrices:
    """M_i of one layer, float64 (rows, columns), with what the request has for this layer.

    components: k where the request names none.
    """

    matrices: Sequence[torch.Tensor]
    settings: TensorSettings
    components: int

    @property
    def weighed(self) -> list[torch.Tensor]:
        """The x_i."""
        return [w * m for w, m in zip(self.settings.weights, self.matrices, strict=True)]


Rule = Callable[[TaskMatrices], Factors]


def compact_svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(U, singular values, V^T) without values that are zero to rounding; the largest first."""
    if not matrix.numel():
        rows, columns = matrix.shape
        return matrix.new_zeros(rows, 0), matrix.new_zeros(0), matrix.new_zeros(0, columns)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    least = values[0] * max(matrix.shape) * torch.finfo(matrix.dtype).eps
    count = int((values > least).sum())
    return u[:, :count], values[:count], v[:count]


def nearest_orthonormal(vectors: torch.Tensor) -> torch.Tensor:
    """The orthonormal columns that are nearest to `vectors`, (rows, count); of columns that depend
    on each other, the nearest within what they span (the polar factor)."""
    u, _, v = compact_svd(vectors)
    return u @ v


def tsv(given: TaskMatrices) -> Factors:
    """Task singular vectors, merged."""
    asked = int(given.settings.parameters.get("k", 0))
    count = asked or max(1, given.components)
    return _orthonormal([_first(compact_svd(x), count) for x in given.weighed])


def iso_c(given: TaskMatrices) -> Factors:
    """The common subspace, isotropic."""
    u, values, v = compact_svd(_summed(given))
    return u * _mean(values), v


def iso_cts(given: TaskMatrices) -> Factors:
    """The common subspace and task-specific ones, isotropic."""
    whole, models = compact_svd(_summed(given)), len(given.matrices)
    count = len(whole[1])
    common = int(count * float(given.settings.parameters["common"]))
    own = min(round((count - common) / models), count // models)
    shared = _first(whole, count - own * models)
    outside = [x - shared[0] @ (shared[0].T @ x) for x in given.weighed]
    left, right, values = _sides([*(_first(compact_svd(x), own) for x in outside), shared])
    return nearest_orthonormal(left) * _mean(values), nearest_orthonormal(right.T).T


def ties(given: TaskMatrices) -> Factors:
    """Trimmed, elected and averaged entry by entry; the left factor is the identity."""
    shape, settings = given.matrices[0].shape, given.settings
    kept = [_trimmed(m, d) for m, d in zip(given.matrices, settings.densities, strict=True)]
    merged = np.zeros(shape.numel())
    if shape.numel():
        weights = settings.weights
        disjoint_merge(torch.stack(kept).numpy(), weights, weights, settings.normalize, merged)
    return torch.eye(shape[0], dtype=torch.float64), torch.from_numpy(merged).view(shape)


def _summed(given: TaskMatrices) -> torch.Tensor:
    return torch.stack(given.weighed).sum(dim=0)


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean() if len(values) else values.new_zeros(())


def _first(
    found: tuple[torch.Tensor, torch.Tensor, torch.Tensor], count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    u, values, v = found
    return u[:, :count], values[:count], v[:count]


def _sides(
    parts: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The left vectors side by side, the right ones one above the other, the singular values."""
    lefts, values, rights = zip(*parts, strict=True)
    return torch.cat(lefts, 1), torch.cat(rights), torch.cat(values)


def _orthonormal(parts: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> Factors:
    left, right, values = _sides(parts)
    return nearest_orthonormal(left) * values, nearest_orthonormal(right.T).T


def _trimmed(matrix: torch.Tensor, density: float) -> torch.Tensor:
    """The entries, (rows * columns,), without all but the largest; ties stay."""
    entries = matrix.flatten()
    if not len(entries) or not density:
        return torch.zeros_like(entries)
    sizes = entries.abs()
    place = len(sizes) - num_keep(density, len(sizes)) + 1
    least = max(float(sizes.kthvalue(place).values), float(sizes.max()) * _ROUNDING)
    return torch.where(sizes >= least, entries, 0.0)
