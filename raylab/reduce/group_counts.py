"""How many of several models keep an entry, and whether they agree in its sign.

Model: at each density a model keeps the entries of its mask (see `raylab.reduce.masks`). Over a
group of n models, the entries are counted that exactly k of them keep, for k = 0 to n; and those
in conflict: two or more models keep them, not all in one direction (Yadav et al. 2023,
arXiv:2306.01708, figure 4).

    kept: int64 (K, W); of a group of n models n + 2 columns: entries that k = 0, ..., n models
    keep, then entries in conflict; the columns of one group stand after those of another

Invariant: counts are exact integers, the same for any slices, tiles, threads, shards and devices.
They take the entries that the masks of pairs take, and read nothing of their own.

Why numba: a mask is a byte for each entry and model, which a loop over a block in the first-level
cache adds in vector registers; torch would write each sum to memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import types

from raylab.compiled import njit
from raylab.reduce.histogram import INFINITY

Groups = Sequence[Sequence[int]]
"""By group: its models by index."""

_BLOCK = 2048
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "boundscheck": False}
Array = np.ndarray


def no_counts(densities: int, groups: Groups, device: torch.device) -> torch.Tensor:
    """The counts of nothing, `kept` as above."""
    width = sum(len(group) + 2 for group in groups)
    return torch.zeros((densities, width), dtype=torch.int64, device=device)


def add_counts(
    kept: torch.Tensor, rows: torch.Tensor, limits: torch.Tensor, groups: Groups
) -> None:
    """Add the entries of `rows`, float32 (N, entries), to `kept`.

    limits: int32 (K, N, 1), the magnitude bits of each model's threshold at each density.
    """
    if not groups or not kept.numel():
        return
    if rows.device.type != "cpu":
        _add_on_gpu(kept, rows, limits, groups)
        return
    sizes = np.array([len(group) for group in groups], dtype=np.int64)
    members = np.array([model for group in groups for model in group], dtype=np.int64)
    bits = rows.contiguous().view(torch.int32).numpy()
    _add_counts(bits, limits[:, :, 0].contiguous().numpy(), members, sizes, kept.numpy())


def _add_on_gpu(
    kept: torch.Tensor, rows: torch.Tensor, limits: torch.Tensor, groups: Groups
) -> None:
    """The same by torch operations."""
    words = rows.view(torch.int32)
    bits = words & 0x7FFFFFFF
    for own, limit in zip(kept, limits, strict=True):
        mask = (bits >= limit) & (bits > 0) & (bits < INFINITY)
        first = 0
        for group in groups:
            places, last = list(group), first + len(group) + 1
            chosen = mask[places]
            total = chosen.sum(dim=0)
            negative = (chosen & (words[places] < 0)).sum(dim=0)
            own[first:last] += torch.bincount(total, minlength=len(group) + 1)
            own[last] += ((negative > 0) & (negative < total)).sum()
            first = last + 1


@njit(**_OPTIONS)
def _mask(bits: Array, limit: int, kept: Array, negative: Array) -> None:
    """Of one block of one model: which entries its mask keeps, and which of these are negative."""
    for i in range(bits.size):
        word = bits[i]
        magnitude = np.int32(word & np.int32(0x7FFFFFFF))
        is_kept = (magnitude >= limit) & (magnitude > 0) & (magnitude < INFINITY)
        kept[i] = np.uint16(is_kept)
        negative[i] = np.uint16(is_kept & (word < 0))


@njit(**_OPTIONS)
def _add(total: Array, values: Array) -> None:
    for i in range(total.size):
        total[i] = np.uint16(total[i] + values[i])


@njit(**_OPTIONS)
def _equal(values: Array, wanted: int) -> Any:
    """How many of `values` are `wanted`."""
    sought = np.uint16(wanted)
    found = np.int32(0)
    for i in range(values.size):
        found = np.int32(found + (values[i] == sought))
    return found


@njit(**_OPTIONS)
def _conflicts(total: Array, negative: Array) -> Any:
    """How many entries some models keep as positive and some as negative."""
    found = np.int32(0)
    for i in range(total.size):
        found = np.int32(found + ((negative[i] > 0) & (negative[i] < total[i])))
    return found


@njit(**_OPTIONS)
def _add_groups(kept: Array, negative: Array, members: Array, sizes: Array, found: Array) -> None:
    """Add one block of all models at one density to `found`, the counts of all groups."""
    totals = np.empty((2, kept.shape[1]), np.uint16)
    total, below = totals[0], totals[1]
    first, column = 0, 0
    for n in sizes:
        total[:] = 0
        below[:] = 0
        for model in members[first : first + n]:
            _add(total, kept[model])
            _add(below, negative[model])
        for k in range(n + 1):
            found[column + k] += _equal(total, k)
        found[column + n + 1] += _conflicts(total, below)
        first += n
        column += n + 2


_BITS = types.Array(types.int32, 2, "C", readonly=True)
_I32, _I64 = types.int32, types.int64


@njit(types.void(_BITS, _I32[:, ::1], _I64[::1], _I64[::1], _I64[:, ::1]), **_OPTIONS)
def _add_counts(bits: Array, limits: Array, members: Array, sizes: Array, found: Array) -> None:
    """Add all entries to `found`. members: the models of all groups, one group after another."""
    count, entries = bits.shape
    for start in range(0, entries, _BLOCK):
        size = min(_BLOCK, entries - start)
        kept = np.empty((count, size), np.uint16)
        negative = np.empty((count, size), np.uint16)
        for density in range(limits.shape[0]):
            for model in range(count):
                block = bits[model, start : start + size]
                _mask(block, limits[density, model], kept[model], negative[model])
            _add_groups(kept, negative, members, sizes, found[density])
