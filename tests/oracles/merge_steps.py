"""The steps of merging for one tile, in plain torch; `raylab.merge.kernels` defines and cites them.

Invariant: every step treats entries one by one. The compiled kernels give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

GAMMA, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_UNIT_BITS = 53


def count_non_finite(delta: torch.Tensor) -> int:
    """How many entries are NaN or infinite."""
    return int((~torch.isfinite(delta)).sum())


def trim(delta: torch.Tensor, threshold: float) -> tuple[torch.Tensor, int]:
    """(`delta` with zeros where its magnitude is below `threshold`, how many are not zero).

    delta: float32 (size,); threshold: exactly a float32.
    """
    kept = torch.where(delta.abs() >= threshold, delta, 0.0)
    return kept, int(torch.count_nonzero(kept))


def drop(delta: torch.Tensor, key: int, first: int, limit: int) -> tuple[torch.Tensor, int]:
    """(`delta` with zeros where its hash is not below `limit`, how many are not zero).

    delta: float32 (size,), its entries being first, first + 1, ... of the tensor.
    """
    counter = torch.arange(first + 1, first + 1 + delta.numel())
    hashed = counter * _wrapped(GAMMA) + _wrapped(key)
    for shift, factor in ((30, MIX_1), (27, MIX_2)):
        hashed = (hashed ^ _shifted(hashed, shift)) * _wrapped(factor)
    hashed = hashed ^ _shifted(hashed, 31)
    kept = torch.where(_shifted(hashed, 64 - _UNIT_BITS) < limit, delta, 0.0)
    return kept, int(torch.count_nonzero(kept))


def _wrapped(word: int) -> int:
    """An unsigned 64-bit word as int64, whose sums and products wrap like the unsigned ones."""
    return word - (1 << 64) if word >> 63 else word


def _shifted(words: torch.Tensor, bits: int) -> torch.Tensor:
    """A logical shift to the right; torch's own copies the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def disjoint_merge(
    deltas: torch.Tensor, factors: Sequence[float], weights: Sequence[float], normalize: bool
) -> torch.Tensor:
    """float64 (size,): the sum of the c_i * d_i with the elected sign, over the sum of their
    weights where `normalize`. deltas: float32 (models, size); factors: the c_i."""
    up, down, up_weight, down_weight = torch.zeros(4, deltas.shape[1], dtype=torch.float64)
    for delta, factor, weight in zip(deltas, factors, weights, strict=True):
        x = delta.to(torch.float64) * factor
        up += torch.where(x > 0, x, 0.0)
        down += torch.where(x < 0, -x, 0.0)
        up_weight += (x > 0).to(torch.float64) * weight
        down_weight += (x < 0).to(torch.float64) * weight
    total = torch.where(up > down, up, torch.where(down > up, -down, 0.0))
    divisor = torch.where(up > down, up_weight, torch.where(down > up, down_weight, 1.0))
    return total / divisor if normalize else total


def weighted_sum(deltas: torch.Tensor, factors: Sequence[float], divisor: float) -> torch.Tensor:
    """float64 (size,): the sum of c_i * d_i, over `divisor`. deltas: float32 (models, size)."""
    total = torch.zeros(deltas.shape[1], dtype=torch.float64)
    for delta, factor in zip(deltas, factors, strict=True):
        total += delta.to(torch.float64) * factor
    return total / divisor


def add_to_base(
    base: torch.Tensor, merged: torch.Tensor, scaling: float, dtype: torch.dtype
) -> tuple[torch.Tensor, int]:
    """(base + scaling * merged in `dtype`, how many entries of it are not finite).

    base: float32 (size,), its values being exact in `dtype`; merged: float64 (size,).
    """
    exact = base.to(torch.float64) + merged * scaling
    moved = torch.where(merged == 0, base.to(dtype), round_once(exact, dtype))
    return moved, count_non_finite(moved)


def round_once(exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """float64 to the nearest value of `dtype`, ties to even.

    Rounding to float32 on the way would round twice. Rounded to odd there (an inexact value takes
    the neighbour whose last bit is 1), nothing is lost: Boldo and Melquiond 2008, "Emulation of
    a FMA and correctly rounded sums: proved algorithms using rounding to odd", theorem 3.
    """
    nearest = exact.to(torch.float32)
    if dtype == torch.float32:
        return nearest
    widened = nearest.to(torch.float64)
    beyond = (widened.abs() > exact.abs()).to(torch.int32)
    odd = (nearest.view(torch.int32) - beyond) | 1
    bits = torch.where(widened == exact, nearest.view(torch.int32), odd)
    return bits.view(torch.float32).to(dtype)
