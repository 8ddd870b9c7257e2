"""How many entries of a sample fall in each bucket, compiled.

Model: a sample is many small pieces, so what surrounds a piece must cost little: counts are added
in place, and a piece of two low-rank deltas is formed, subtracted and counted in one call, which
needs no lock of Python. `raylab.reduce.threshold_sampling.count_buckets` counts the same in torch.
Invariant: counts are exact. The entries of low-rank deltas may differ in the last bits from those
that are measured; foresight decides nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, types

from raylab.reduce.lora_product import FACTOR, fill_block, operands
from raylab.weights.adapter_parts import Factors

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "boundscheck": False}
_LOW, _SIXTEEN = np.uint64((1 << 16) - 1), np.uint64(16)
_BITS = types.Array(types.int32, 1, "C", readonly=True)
_COUNTS = types.int64[:, ::1]


# Compiled at import: looking for what fits the types took longer than a sample.
@njit(types.void(_BITS, _COUNTS), **_OPTIONS)
def _add_bits(bits: np.ndarray, counts: np.ndarray) -> None:
    for i in range(bits.size):
        magnitude = np.uint64(bits[i] & 0x7FFFFFFF)
        bucket = magnitude >> _SIXTEEN
        counts[np.uint64(0), bucket] += 1
        counts[np.uint64(1), bucket] += (magnitude & _LOW) == np.uint64(0)


@njit(types.void(FACTOR, FACTOR, types.float32, FACTOR, FACTOR, types.float32, _COUNTS), **_OPTIONS)
def _add_products(
    up_a: np.ndarray,
    down_a: np.ndarray,
    scale_a: float,
    up_b: np.ndarray,
    down_b: np.ndarray,
    scale_b: float,
    counts: np.ndarray,
) -> None:
    size = up_a.shape[0] * down_a.shape[1]
    a, b = np.empty(size, np.float32), np.empty(size, np.float32)
    fill_block(a, up_a, down_a, scale_a, 0)
    fill_block(b, up_b, down_b, scale_b, 0)
    for i in range(size):
        a[i] -= b[i]
    _add_bits(a.view(np.int32), counts)


def add_values(values: torch.Tensor, counts: np.ndarray) -> None:
    """Add the buckets of float32 `values` to `counts`, int64 (2, BUCKETS)."""
    _add_bits(values.reshape(-1).view(torch.int32).numpy(), counts)


def add_products(a: Factors, b: Factors, start: int, stop: int, counts: np.ndarray) -> None:
    """The same of rows [start, stop) of the difference of two low-rank deltas."""
    _add_products(*operands(a, start, stop), *operands(b, start, stop), counts)
