"""Spaces in which task matrices are merged: small ones, that hold all of them exactly.

Model: model i's task matrix of a layer is B_i A_i, (rows, r_i) times (r_i, columns), float64, with
the adapter's scale in B_i. A space has a basis on each side, L and R, and a coordinate matrix M_i
of every model, so that B_i A_i = L M_i R. A rule merges the M_i.

    shared   L and R from QR of the factors side by side: any orthonormal bases, for rules that turn
             with the matrices
    core     the singular vectors of [B_1 ... B_T] and of the A_i one above the other
             (Core Space: Panariello et al. 2025, arXiv:2509.17786, section 3)
    knots    of [B_1 A_1 ... B_T A_T] = U S [V_1 ... V_T]: L = U, M_i = S V_i, no R
             (KnOTS: Stoica et al. 2024, arXiv:2410.19735, section 4)

Invariant: no matrix is larger than the factors side by side, but for `knots`, whose M_i have all
columns; no task matrix is formed. Directions whose singular value is zero to rounding are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from raylab.merge.matrix_rules import Factors, compact_svd


@dataclass(frozen=True)
class Space:
    """left: L, (rows, a); right: R, (b, columns); coordinates: the M_i, (a, b). None: no basis of
    this side, whose coordinates are the entries."""

    coordinates: Sequence[torch.Tensor]
    left: torch.Tensor | None = None
    right: torch.Tensor | None = None

    def back(self, merged: Factors) -> Factors:
        """The factors of a merged matrix of this space, in the layer's own entries."""
        up, down = merged
        return (
            up if self.left is None else self.left @ up,
            down if self.right is None else down @ self.right,
        )


def shared(factors: Sequence[Factors]) -> Space:
    """Bases of all factors, by QR."""
    ups, downs = zip(*factors, strict=True)
    left, upper = torch.linalg.qr(torch.cat(ups, 1))
    right, lower = torch.linalg.qr(torch.cat(downs).T)
    return Space(_coordinates(factors, upper, lower.T), left, right.T)


def core(factors: Sequence[Factors]) -> Space:
    """Bases of all factors, by the singular vectors of each side."""
    ups, downs = zip(*factors, strict=True)
    left, upper = torch.linalg.qr(torch.cat(ups, 1))
    right, lower = torch.linalg.qr(torch.cat(downs).T)
    turn, _, _ = compact_svd(upper)
    other_turn, _, _ = compact_svd(lower)
    found = _coordinates(factors, turn.T @ upper, lower.T @ other_turn)
    return Space(found, left @ turn, (right @ other_turn).T)


def knots(factors: Sequence[Factors]) -> Space:
    """One basis of the outputs for all models, by the singular vectors of all side by side."""
    ups, downs = zip(*factors, strict=True)
    left, upper = torch.linalg.qr(torch.cat(ups, 1))
    # Each model has columns of its own, so its factors' bases stand beside the others'.
    own = [torch.linalg.qr(down.T) for down in downs]
    widths = [basis.shape[1] for basis, _ in own]
    beside = torch.block_diag(*(lower.T for _, lower in own))
    u, values, v = compact_svd(upper @ beside)
    parts = (values[:, None] * v).split(widths, dim=1)
    found = [part @ basis.T for part, (basis, _) in zip(parts, own, strict=True)]
    return Space(found, left @ u)


def _coordinates(
    factors: Sequence[Factors], upper: torch.Tensor, lower: torch.Tensor
) -> list[torch.Tensor]:
    """Of every model, its columns of `upper` times its rows of `lower`."""
    widths = [up.shape[1] for up, _ in factors]
    pairs = zip(upper.split(widths, dim=1), lower.split(widths), strict=True)
    return [left @ right for left, right in pairs]


SPACES: dict[str, Callable[[Sequence[Factors]], Space]] = {
    "shared": shared,
    "core": core,
    "knots": knots,
}
