"""Exact singular values of an adapter's deltas, out of its factors, no delta ever formed.

Model: a chain of adapters changes a tensor by sum_k s_k B_k A_k, which is one product of the
factors side by side, B A with B = [s_1 B_1, s_2 B_2 ...] and A = [A_1; A_2 ...]. With
B = Q_B R_B and A^T = Q_A R_A the delta is Q_B (R_B R_A^T) Q_A^T, so its singular values are those
of the small core R_B R_A^T (Golub & Van Loan, Matrix Computations, 4th ed., 5.2 and 8.6).
Invariant: everything is float64 in one BLAS thread: the same bits for any threads and any split
of the tensors. A value that float64 cannot tell from zero is zero: column j of B and row j of A
reach the core with an error of the order of eps |b_j| |a_j|, so a singular value below
max(rows, columns) eps sum_j |b_j| |a_j| is given as 0.0. A delta whose parts cancel has rank 0.

The spectrum is that of the exact product of the stored factors; the norms measure its rounding to
float32.

A tensor that an adapter changes in another way (DoRA, a module saved whole, a bias), and every
tensor of a checkpoint, has no low-rank form, and yields no row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from raylab.errors import NonFiniteError
from raylab.reduce.low_rank import Term, error_bound, scaled_factors
from raylab.store.references import ModelLocation
from raylab.weights import Checkpoint
from raylab.weights.adapter import Adapter
from raylab.weights.row_tiles import one_blas_thread


def spectra_of(
    place: ModelLocation, names: Iterable[str], base: Checkpoint | None = None
) -> list[dict[str, Any]]:
    """Rows of the table `spectra`, without `model`, for each of `names` with a low-rank form.

    `rank` counts the singular values that are not zero; the list is as long as the factors' rank
    allows, largest first, zeros included. `base` is needed where an adapter cannot be opened
    without (see Adapter.open). Raises ModelError, NonFiniteError (names the tensor).
    """
    adapters = [Adapter.open(path, base) for path in place.adapters]
    return [
        _row(name, singular_values(terms, name))
        for name in names
        if (terms := _terms(adapters, name))
    ]


def _terms(adapters: Sequence[Adapter], name: str) -> list[Term]:
    """The terms of one delta, the oldest first; none where a part of it has no low-rank form."""
    touching = [adapter for adapter in adapters if name in adapter.shapes]
    if not all(name in adapter.low_rank for adapter in touching):
        return []
    return [adapter.factors(name) for adapter in touching]


def _row(name: str, values: Sequence[float]) -> dict[str, Any]:
    return {
        "tensor": name,
        "rank": sum(value > 0 for value in values),
        "singular_values": list(values),
        "shares": shares(values),
        "effective_rank": effective_rank(values),
    }


def singular_values(terms: Sequence[Term], name: str = "a delta") -> list[float]:
    """The singular values of sum_k scale_k * (B_k @ A_k), largest first.

    As many as min(rows, columns, sum of the ranks). Raises NonFiniteError, which says `name`.
    """
    with one_blas_thread():
        up, down, largest = scaled_factors(terms)
        left, right = (torch.linalg.qr(factor, mode="r").R for factor in (up, down.T))
        error = error_bound(left, right, max(up.shape[0], down.shape[1]))
        if not math.isfinite(error * largest):
            raise NonFiniteError(f"the factors of {name} are not finite", expected="numbers")
        found = torch.linalg.svdvals(left @ right.T)
    values: list[float] = torch.where(found > error, found * largest, 0.0).tolist()
    return values


def shares(values: Sequence[float]) -> list[float] | None:
    """The share of the first k of the sum of squared singular values; None for a zero delta."""
    if not values or values[0] == 0:
        return None
    squares = torch.tensor(values, dtype=torch.float64).div(values[0]).square().cumsum(0)
    found: list[float] = (squares / squares[-1]).tolist()
    return found


def effective_rank(values: Sequence[float]) -> float:
    """exp(-sum_i p_i log p_i), p_i = s_i / sum s; 0.0 for a zero delta.

    Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality", EUSIPCO,
    equations 2 to 4.
    """
    if not values or values[0] == 0:
        return 0.0
    parts = torch.tensor(values, dtype=torch.float64).div(values[0])
    return float(torch.special.entr(parts / parts.sum()).sum().exp())
