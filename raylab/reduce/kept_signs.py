"""How many of a model's largest entries a merge of it keeps with their sign.

Model: at each density a parent keeps the entries of its mask (see `raylab.reduce.masks`). Of these,
the merge has some with the same sign (`survived`) and some that are zero; the rest have the other
sign. A kin is a pair (merge, parent):

    counts: int64 (K, P, 2); at each density and of each kin the entries that survived, and those
    that are zero in the merge

An entry of the merge that is not finite counts as zero.
Invariant: counts are exact integers, the same for any slices, tiles, threads, shards and devices.
They take the entries that the masks of pairs take, and read nothing of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import types

from raylab.compiled import njit
from raylab.reduce.histogram import INFINITY

Kin = Sequence[tuple[int, int]]
"""Merges and their parents, by index of the models."""

_BLOCK = 2048
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "boundscheck": False}
Array = np.ndarray


def no_signs(densities: int, kin: Kin, device: torch.device) -> torch.Tensor:
    """The counts of nothing, as above."""
    return torch.zeros((densities, len(kin), 2), dtype=torch.int64, device=device)


def add_signs(counts: torch.Tensor, rows: torch.Tensor, limits: torch.Tensor, kin: Kin) -> None:
    """Add the entries of `rows`, float32 (N, entries), to `counts`.

    limits: int32 (K, N, 1), the magnitude bits of each model's threshold at each density.
    """
    if not kin or not counts.numel():
        return
    if rows.device.type != "cpu":
        _add_on_gpu(counts, rows, limits, kin)
        return
    bits = rows.contiguous().view(torch.int32).numpy()
    pairs = np.array(kin, dtype=np.int64)
    _add_signs(bits, limits[:, :, 0].contiguous().numpy(), pairs, counts.numpy())


def _add_on_gpu(counts: torch.Tensor, rows: torch.Tensor, limits: torch.Tensor, kin: Kin) -> None:
    """The same by torch operations."""
    words = rows.view(torch.int32)
    bits = words & 0x7FFFFFFF
    is_there = (bits > 0) & (bits < INFINITY)
    for place, (merge, parent) in enumerate(kin):
        is_same = is_there[merge] & ((words[merge] ^ words[parent]) >= 0)
        for own, limit in zip(counts, limits[:, parent], strict=True):
            kept = is_there[parent] & (bits[parent] >= limit)
            own[place, 0] += (kept & is_same).sum()
            own[place, 1] += (kept & ~is_there[merge]).sum()


@njit(**_OPTIONS)
def _add_block(merge: Array, parent: Array, limit: int, found: Array) -> None:
    """Add one block of one merge and parent at one density to `found`."""
    survived, zero = np.int32(0), np.int32(0)
    for i in range(parent.size):
        size = np.int32(parent[i] & np.int32(0x7FFFFFFF))
        other = np.int32(merge[i] & np.int32(0x7FFFFFFF))
        is_kept = (size >= limit) & (size > 0) & (size < INFINITY)
        is_there = (other > 0) & (other < INFINITY)
        is_same = (merge[i] < 0) == (parent[i] < 0)
        survived = np.int32(survived + (is_kept & is_there & is_same))
        zero = np.int32(zero + (is_kept & (not is_there)))
    found[0] += survived
    found[1] += zero


_BITS = types.Array(types.int32, 2, "C", readonly=True)
_I32, _I64 = types.int32, types.int64


@njit(types.void(_BITS, _I32[:, ::1], _I64[:, ::1], _I64[:, :, ::1]), **_OPTIONS)
def _add_signs(bits: Array, limits: Array, kin: Array, counts: Array) -> None:
    """Add all entries to `counts`, a block that the first-level cache holds at a time."""
    for start in range(0, bits.shape[1], _BLOCK):
        stop = min(start + _BLOCK, bits.shape[1])
        for place in range(kin.shape[0]):
            merge, parent = kin[place]
            for density in range(limits.shape[0]):
                _add_block(
                    bits[merge, start:stop],
                    bits[parent, start:stop],
                    limits[density, parent],
                    counts[density, place],
                )
