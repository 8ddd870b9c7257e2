"""The steps of merging, for one tile, in plain torch: what each number of a merged model means.

Model: d_i is a model's task vector (for `linear`, its values), float32. All arithmetic on it is
float64, models in the order of the request, and the result is rounded once.

    trim            d_i stays where |d_i| >= threshold_i and d_i != 0
                    (TIES-Merging: Yadav et al. 2023, arXiv:2306.01708, algorithm 1, step 1)
    drop            d_i stays with probability density_i, and counts 1 / density_i times
                    (DARE: Yu et al. 2023, arXiv:2311.03099, section 3.2)
    weigh           x_i = c_i * d_i, with c_i = weight_i, for DARE weight_i / density_i
    elect           the sign whose x_i sum to the larger magnitude wins; the mean of the x_i that
                    have it is their sum over the sum of their weights (TIES, steps 2 and 3)
    add             sum of x_i, over `divisor` (task arithmetic: Ilharco et al. 2022,
                    arXiv:2212.04089; model soups: Wortsman et al. 2022, arXiv:2203.05482)
    move            round(base + lambda * merged); an entry that nothing moves keeps its bits

Weights come before the election, as a weight says how much a model is worth. Zeros do not vote
and do not count in the mean. Where both signs sum to the same magnitude neither wins, and the
entry stays as in the base: so merging the negated task vectors gives the negated result.
Whether DARE keeps an entry depends on (seed, model, tensor, index of the entry) alone: it is
the index-th output of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators", figure 16), started at the key that `stream_key` makes of the others.
Invariant: every step treats entries one by one, so tiles and threads leave no trace.
`raylab.merge.kernels` does the same steps, compiled, bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from raylab.reduce.threshold import num_keep

GAMMA, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_UNIT_BITS = 53


def stream_key(seed: int, model: int, tensor: str) -> int:
    """Where the stream of one tensor of the model at place `model` of the request starts."""
    text = f"{seed}\0{model}\0{tensor}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def kept_below(density: float) -> int:
    """An entry stays if the upper 53 bits of its hash are below this, of 2^53."""
    return num_keep(density, 1 << _UNIT_BITS)


def non_finite(delta: torch.Tensor) -> int:
    """How many entries are NaN or infinite."""
    return int((~torch.isfinite(delta)).sum())


def trim(delta: torch.Tensor, threshold: float) -> tuple[torch.Tensor, int]:
    """(`delta` with zeros where its magnitude is below `threshold`, how many are not zero).

    delta: float32 (size,); threshold: exactly a float32.
    """
    kept = torch.where(delta.abs() >= threshold, delta, 0.0)
    return kept, int(torch.count_nonzero(kept))


def drop(delta: torch.Tensor, key: int, first: int, below: int) -> tuple[torch.Tensor, int]:
    """(`delta` with zeros where its hash is not below `below`, how many are not zero).

    delta: float32 (size,), its entries being first, first + 1, ... of the tensor.
    """
    counter = torch.arange(first + 1, first + 1 + delta.numel())
    hashed = counter * _wrapped(GAMMA) + _wrapped(key)
    for shift, factor in ((30, MIX_1), (27, MIX_2)):
        hashed = (hashed ^ _shifted(hashed, shift)) * _wrapped(factor)
    hashed = hashed ^ _shifted(hashed, 31)
    kept = torch.where(_shifted(hashed, 64 - _UNIT_BITS) < below, delta, 0.0)
    return kept, int(torch.count_nonzero(kept))


def _wrapped(word: int) -> int:
    """An unsigned 64-bit word as int64, whose sums and products wrap like the unsigned ones."""
    return word - (1 << 64) if word >> 63 else word


def _shifted(words: torch.Tensor, bits: int) -> torch.Tensor:
    """A logical shift to the right; torch's own copies the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def elect(
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


def add(deltas: torch.Tensor, factors: Sequence[float], divisor: float) -> torch.Tensor:
    """float64 (size,): the sum of c_i * d_i, over `divisor`. deltas: float32 (models, size)."""
    total = torch.zeros(deltas.shape[1], dtype=torch.float64)
    for delta, factor in zip(deltas, factors, strict=True):
        total += delta.to(torch.float64) * factor
    return total / divisor


def move(
    base: torch.Tensor, merged: torch.Tensor, scaling: float, dtype: torch.dtype
) -> tuple[torch.Tensor, int]:
    """(base + scaling * merged in `dtype`, how many entries of it are not finite).

    base: float32 (size,), its values being exact in `dtype`; merged: float64 (size,).
    """
    exact = base.to(torch.float64) + merged * scaling
    moved = torch.where(merged == 0, base.to(dtype), round_once(exact, dtype))
    return moved, non_finite(moved)


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
