"""Inner products of low-rank deltas out of their factors: no delta is formed.

Model: a delta is a sum over its rank, D = sum_i s_i b_i a_i^T, with b_i a column of B, a_i a row of
A and s_i the scale of the adapter that they belong to; a chain of adapters is one such sum. Then

    <D, E> = sum_ij s_i t_j <b_i, c_j> <a_i, d_j>,     E = sum_j t_j c_j d_j^T

so that two matrices of r x r products take the place of all entries. It is the product of the
deltas before they are rounded to float32: cosines differ from those of the entries by less than
1e-9 where there are thousands of entries.
Invariant: a product depends on the two deltas alone, and not on their order. What factors cannot
say as well as entries is left to these: a delta of which terms cancel (float64 keeps 2^-20 of what
they are), that may overflow float32 or vanish in it, or whose rank is beyond MOST_RANK. It is the
delta alone that decides this; both of a pair have to be of the one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from raylab.compiled import njit, types
from raylab.reduce.dot_products import dot_products
from raylab.reduce.lora_product import Terms

MOST_RANK = 64
"""The most terms of a delta: of more, entries cost as little."""
_LEAST_LEFT = 2.0**-20
_LARGEST, _SMALLEST = 2.0**126, 2.0**-100
Array = np.ndarray


def factor_products(
    chains: Sequence[Terms | None], wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(inner products, float64 (N, N); bool (N, N), which of those wanted are there).

    chains: the deltas of N models over one tensor, of one shape; () for zeros, None for one that
    is no sum of products. wanted: bool (N, N), symmetric, with the diagonal.
    """
    ranks = np.array([_rank(terms) for terms in chains], dtype=np.int64)
    ends = np.cumsum(ranks)
    known = [terms for terms, rank in zip(chains, ranks, strict=True) if terms and rank]
    is_there = np.array([terms == () for terms in chains], dtype=np.bool_)
    found = np.zeros((len(chains), len(chains)))
    if known:
        factors = [each for terms in known for each in terms]
        down = torch.cat([each.down for each in factors])
        up = torch.cat([each.up.T for each in factors])
        scales = np.concatenate([np.full(each.rank, each.scale) for each in factors])
        of_row = np.repeat(np.arange(len(chains)), ranks)
        asked = wanted[np.ix_(of_row, of_row)]
        with np.errstate(invalid="ignore", over="ignore"):
            left, right = (dot_products(side, asked).numpy() for side in (up, down))
            terms = scales[:, None] * scales * (left * right)
        _add_up(terms, ends - ranks, ends, wanted, found)
        peaks = np.abs(scales).clip(1) * np.array(_peaks(up)) * np.array(_peaks(down))
        lengths = np.sqrt(np.abs(np.diag(terms)))
        entries = up.shape[1] * down.shape[1]
        for at in np.flatnonzero(ranks):
            own = slice(ends[at] - ranks[at], ends[at])
            bound = lengths[own].sum() ** 2, peaks[own].sum()
            is_there[at] = _is_sound(found[at, at], *bound, entries)
    both = wanted & is_there[:, None] & is_there
    return np.where(both, found, 0.0), both


def _rank(terms: Terms | None) -> int:
    """How many terms a delta has; 0 where it has too many, or is no sum of terms."""
    rank = sum(factors.rank for factors in terms or ())
    return rank if rank <= MOST_RANK else 0


def _peaks(rows: torch.Tensor) -> list[float]:
    return [float(row.abs().max()) if row.numel() else 0.0 for row in rows]


def _is_sound(squares: float, most: float, peak: float, entries: int) -> bool:
    """Whether the product of a delta with itself, `squares`, is as good as that of its entries.

    most: a bound of it, were there no signs; peak: of its entries and of all that they are summed
    of. NaN and infinity are sound nowhere.
    """
    if most == 0 and peak <= _LARGEST:
        return True
    return peak <= _LARGEST and squares >= max(_LEAST_LEFT * most, entries * _SMALLEST**2)


@njit()
def _sum(terms: Array) -> Any:
    """The sum of all terms (i, j), in an order that is the same for their transpose: (i, j) and
    (j, i) are added to each other first."""
    left, right = terms.shape
    longest = max(left, right)
    total = 0.0
    for i in range(longest):
        for j in range(i, longest):
            one = terms[i, j] if i < left and j < right else 0.0
            two = terms[j, i] if j < left and i < right else 0.0
            total += one if i == j else one + two
    return total


_I64, _F64 = types.int64[::1], types.float64[:, ::1]


@njit(types.void(_F64, _I64, _I64, types.boolean[:, ::1], _F64))
def _add_up(terms: Array, starts: Array, ends: Array, wanted: Array, found: Array) -> None:
    """found[a, b] = the sum of all terms of a with those of b."""
    for a in range(starts.size):
        for b in range(a, starts.size):
            if wanted[a, b]:
                found[a, b] = _sum(terms[starts[a] : ends[a], starts[b] : ends[b]])
                found[b, a] = found[a, b]
