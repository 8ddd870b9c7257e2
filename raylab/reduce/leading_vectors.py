"""The leading eigenvectors of a diagonal matrix plus one of low rank.

Model: M = diag(d) + X C X^T with d falling. All coordinates of the largest d, as many as `_KEPT`
and more, are kept as they are; on the others the span of X is made larger by powers of diag(d), a
block Krylov space (Golub & Van Loan, Matrix Computations, 4th ed., 10.3.6), until the eigenvectors
of M in it (Rayleigh-Ritz) are those of M: the largest residual |M z - mu z| is at most TOLERANCE of
the largest eigenvalue. A small M, or one that does not get there, is formed and decomposed.
Invariant: no eigenvector is missed. One outside of the space has X^T z = 0, so that its eigenvalue
is one of the smaller d; and where X C X^T has n negative eigenvalues, the k-th eigenvalue of M is
at least the (k + n)-th d (Weyl), which is kept. The bits depend on the arguments alone, given one
BLAS thread.
"""

from __future__ import annotations

import torch

TOLERANCE = 1e-12
_DENSE = 512
_KEPT = 256
_STEPS = 48
_DEPENDENT = 1e-10


def leading_vectors(
    diagonal: torch.Tensor, factor: torch.Tensor, core: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest eigenvalues (count,), and their vectors (p, count), largest first.

    diagonal: float64 (p,), falling; factor: float64 (p, n); core: float64 (n, n), symmetric.
    """
    kept = count + factor.shape[1] + _KEPT
    if len(diagonal) > max(_DENSE, 2 * kept):
        found = _in_krylov_space(diagonal, factor, core, count, kept)
        if found is not None:
            return found
    whole = torch.diag(diagonal) + factor @ core @ factor.T
    return _largest(whole, count)


def _in_krylov_space(
    diagonal: torch.Tensor, factor: torch.Tensor, core: torch.Tensor, count: int, kept: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    top, rest = diagonal[:kept], diagonal[kept:, None]
    basis = last = _independent(factor[kept:])
    for _ in range(_STEPS):
        moved = rest * basis
        inner = basis.T @ moved
        both = torch.cat([factor[:kept], basis.T @ factor[kept:]])
        small = torch.block_diag(torch.diag(top), inner) + both @ core @ both.T
        values, vectors = _largest(small, count)
        lower = vectors[kept:]
        # The span holds X, so that only diag(d) leads out of it.
        residual = (moved @ lower - basis @ (inner @ lower)).norm(dim=0)
        if bool((residual <= TOLERANCE * values[0]).all()):
            return values, torch.cat([vectors[:kept], basis @ lower])
        last = rest * last
        before = last.norm(dim=0).max()
        last = last - basis @ (basis.T @ last)
        last = _independent(last, before)
        if not last.shape[1]:
            return None
        last = torch.linalg.qr(last - basis @ (basis.T @ last)).Q
        basis = torch.cat([basis, last], dim=1)
    return None


def _independent(block: torch.Tensor, of: torch.Tensor | None = None) -> torch.Tensor:
    """An orthonormal basis of the columns, without what is rounding beside the size `of`."""
    found = torch.linalg.svd(block, full_matrices=False)
    size = found.S.max() if of is None else of
    return found.U[:, _DEPENDENT * size < found.S]


def _largest(matrix: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return values.flip(0)[:count], vectors.flip(1)[:, :count]
