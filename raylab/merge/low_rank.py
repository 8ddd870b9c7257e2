"""The best approximation of a matrix by a product of two thin ones.

Model: the first r terms of a singular value decomposition are nearest to the matrix among all
matrices of rank r, in the Frobenius norm (Eckart and Young 1936, "The approximation of one matrix
by another of lower rank"). Of a matrix that is held whole, the singular vectors of the shorter side
are the eigenvectors of its product with itself: one small symmetric problem, several times cheaper
than a decomposition. Squaring costs digits of singular values below 1e-8 of the largest one, which
hold 1e-16 of the energy. Of a product B A of small factors, both are made orthonormal (QR), and
the decomposition is that of a matrix of their rank. Each side takes the root of a singular value.
Invariant: all arithmetic is float64, on one thread of the caller's; the result is rounded once, to
float32. What is lost is that of the approximation, without this rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from raylab.spec.adapter_output import AdapterOutput


@dataclass(frozen=True)
class Approximation:
    """up: (rows, rank), down: (rank, columns), both float32; up @ down is near the matrix.

    energy: the squared Frobenius norm of the matrix; lost: that of the difference.
    """

    up: torch.Tensor
    down: torch.Tensor
    energy: float
    lost: float

    @property
    def rank(self) -> int:
        """The columns of `up`."""
        return self.up.shape[1]


def approximate(matrix: torch.Tensor, asked: AdapterOutput, rank: int) -> Approximation:
    """The best approximation of `matrix`, float64 (rows, columns), of the rank that is asked for;
    `rank` where nothing is."""
    rows, columns = matrix.shape
    wide = matrix if rows <= columns else matrix.T
    values, vectors = torch.linalg.eigh(wide @ wide.T)  # Ascending.
    kept = _rank(values.flip(0).clamp(min=0), asked, rank)
    left = vectors.flip(1)[:, :kept]
    right = left.T @ wide
    lost = float(((wide - left @ right) ** 2).sum())
    root = right.norm(dim=1).sqrt()
    scaled = torch.where(root > 0, 1 / root, 0.0)
    up, down = left * root, right * scaled[:, None]
    if wide is not matrix:
        up, down = down.T, up.T
    return _rounded(up, down, float((matrix**2).sum()), lost)


def approximate_product(
    up: torch.Tensor, down: torch.Tensor, asked: AdapterOutput
) -> Approximation:
    """As `approximate` of up @ down, which is not formed; float64 (rows, r) and (r, columns)."""
    left, upper = torch.linalg.qr(up)
    right, lower = torch.linalg.qr(down.T)
    u, values, v = torch.linalg.svd(upper @ lower.T)
    squares = values**2
    kept = _rank(squares, asked, len(values))
    root = values[:kept].sqrt()
    new_up, new_down = left @ u[:, :kept] * root, root[:, None] * (v[:kept] @ right.T)
    return _rounded(new_up, new_down, float(squares.sum()), float(squares[kept:].sum()))


def exact_product(up: torch.Tensor, down: torch.Tensor) -> Approximation:
    """up @ down itself: nothing is lost but by rounding to float32."""
    upper, lower = (torch.linalg.qr(side).R for side in (up, down.T))
    return _rounded(up, down, float(((upper @ lower.T) ** 2).sum()), 0.0)


def _rank(squares: torch.Tensor, asked: AdapterOutput, rank: int) -> int:
    """How many of the squared singular values stay, the largest first; at least one."""
    if asked.energy is not None:
        kept = squares.cumsum(0)
        rank = int((kept < asked.energy * kept[-1]).sum()) + 1
    return max(1, min(asked.rank or rank, len(squares)))


def _rounded(up: torch.Tensor, down: torch.Tensor, energy: float, lost: float) -> Approximation:
    return Approximation(up.float().contiguous(), down.float().contiguous(), energy, lost)
