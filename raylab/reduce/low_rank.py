"""The singular vectors of a delta: exact ones out of an adapter's factors, else the leading ones.

Model: a chain of adapters changes a tensor by one product of factors side by side, B A. With
B = Q_B R_B and A^T = Q_A R_A the delta is Q_B (R_B R_A^T) Q_A^T, and the SVD of the small core
R_B R_A^T turns Q_B and Q_A into its singular vectors (Golub & Van Loan, Matrix Computations, 4th
ed., 5.2 and 8.6). Any other delta is read by tiles of rows, and a randomised range finder with
power iterations gives its leading RANK directions (Halko, Martinsson & Tropp 2011,
arXiv:0909.4061, algorithms 4.4 and 5.1).
Invariant: everything is float64 in one BLAS thread, and the random start is a function of the
tensor's name: the same bits for any threads and any split of the tensors. A delta of more than
MOST_HELD entries is never held whole, but read again for each product. A direction whose singular
value float64 cannot tell from zero is left out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from raylab.errors import NonFiniteError
from raylab.weights.row_tiles import one_blas_thread, tiles
from raylab.weights.safetensors_reader import Shape

Term = tuple[torch.Tensor, torch.Tensor, float]
"""A (r, columns), B (rows, r) and scale: one term scale * (B @ A) of a delta."""

RANK = 16
"""Directions of a delta without factors."""
MOST_HELD = 1 << 26
"""Entries of a delta that is read once and held, in float32 256 MB."""
_MORE = 8
"""Random directions beyond RANK, so that the last of them are found as well."""
_ITERATIONS = 2
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Directions:
    """Singular vectors of a delta, the largest value first, all float64.

    output: (rows, k), a basis of what the layer writes; input: (columns, k), of what it reads;
    values: (k,); energy: the sum of the squares of all singular values, also of those left out.
    """

    output: torch.Tensor
    values: torch.Tensor
    input: torch.Tensor
    energy: float

    @property
    def rank(self) -> int:
        """k; 0 for a delta of zeros."""
        return len(self.values)

    def held(self, k: int) -> float:
        """The share of the energy that the first k directions hold."""
        return float(self.values[:k].square().sum()) / self.energy if self.energy else 0.0

    def rank_for(self, share: float) -> int:
        """The fewest directions that hold `share` of the energy; all where none do."""
        sums = self.values.square().cumsum(0) / (self.energy or 1.0)
        # Rounding must not ask for one more than all.
        return min(self.rank, int((sums < share * (1 - 4 * _EPS)).sum()) + 1)


def scaled_factors(terms: Sequence[Term]) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(B, A, scale) of one product: float64 (rows, r) and (r, columns), r the sum of the ranks."""
    largest = max(abs(scale) for _, _, scale in terms) or 1.0
    up = torch.cat([b.double() * (scale / largest) for _, b, scale in terms], dim=1)
    return up, torch.cat([a.double() for a, _, _ in terms]), largest


def error_bound(left: torch.Tensor, right: torch.Tensor, longest: int) -> float:
    """Below this, a singular value of left @ right.T may be rounding alone.

    Column j of both, triangular factors of matrices of at most `longest` rows, reaches the product
    with an error of the order of eps |left_j| |right_j|.
    """
    return _EPS * longest * float(left.norm(dim=0) @ right.norm(dim=0))


def directions_of_factors(terms: Sequence[Term], name: str) -> Directions:
    """All directions of sum_k scale_k * (B_k @ A_k). Raises NonFiniteError, which says `name`."""
    with one_blas_thread():
        up, down, scale = scaled_factors(terms)
        left, right = (torch.linalg.qr(factor) for factor in (up, down.T))
        error = error_bound(left.R, right.R, max(up.shape[0], down.shape[1]))
        _check_finite(error * scale, name)
        core = torch.linalg.svd(left.R @ right.R.T, full_matrices=False)
        k = int((error < core.S).sum())
        values = core.S[:k] * scale
        return Directions(
            output=left.Q @ core.U[:, :k],
            values=values,
            input=right.Q @ core.Vh[:k].T,
            energy=float(values.square().sum()),
        )


def leading_directions(
    rows_of: Callable[[int, int], torch.Tensor], shape: Shape, name: str
) -> Directions:
    """The leading RANK directions of a delta of `shape` (rows, columns), read by rows.

    `rows_of` gives rows [start, stop), 2-D, any float dtype. Beyond MOST_HELD entries each is read
    twice for each power iteration, and twice more. Raises NonFiniteError.
    """
    rows, columns = shape
    if rows * columns <= MOST_HELD:
        rows_of = _held(rows_of(0, rows))
    width = min(RANK + _MORE, rows, columns)
    bounds = list(tiles(shape))
    with one_blas_thread():
        start = torch.randn(columns, width, dtype=torch.float64, generator=_generator(name))
        found = _left_product(rows_of, bounds, start)
        for _ in range(_ITERATIONS):
            back = torch.linalg.qr(_right_product(rows_of, bounds, torch.linalg.qr(found).Q)[0]).Q
            found = _left_product(rows_of, bounds, back)
        basis = torch.linalg.qr(found).Q
        core, energy = _right_product(rows_of, bounds, basis)
        _check_finite(energy, name)
        svd = torch.linalg.svd(core.T, full_matrices=False)
        is_there = _EPS * max(rows, columns) * math.sqrt(energy) < svd.S
        k = min(RANK, int(is_there.sum()))
        return Directions(basis @ svd.U[:, :k], svd.S[:k], svd.Vh[:k].T.contiguous(), energy)


def _held(delta: torch.Tensor) -> Callable[[int, int], torch.Tensor]:
    return lambda start, stop: delta[start:stop]


def _left_product(
    rows_of: Callable[[int, int], torch.Tensor],
    bounds: Sequence[tuple[int, int]],
    right: torch.Tensor,
) -> torch.Tensor:
    """delta @ right, (rows, width)."""
    return torch.cat([rows_of(start, stop).double() @ right for start, stop in bounds])


def _right_product(
    rows_of: Callable[[int, int], torch.Tensor],
    bounds: Sequence[tuple[int, int]],
    left: torch.Tensor,
) -> tuple[torch.Tensor, float]:
    """(delta.T @ left, (columns, width); the sum of the squares of the delta)."""
    total, squares = torch.zeros((), dtype=torch.float64), []
    for start, stop in bounds:
        tile = rows_of(start, stop).double()
        squares.append(float(tile.square().sum()))
        total = total + tile.T @ left[start:stop]
    return total, math.fsum(squares)


def _generator(name: str) -> torch.Generator:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)


def _check_finite(value: float, name: str) -> None:
    if not math.isfinite(value):
        raise NonFiniteError(f"the delta of {name} is not finite", expected="numbers")
