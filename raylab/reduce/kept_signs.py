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

import numpy as np
import torch

from raylab.reduce.bit_planes import add_signs
from raylab.reduce.histogram import INFINITY

Kin = Sequence[tuple[int, int]]
"""Merges and their parents, by index of the models."""


def add_planes(counts: np.ndarray, planes: np.ndarray, kin: Kin) -> None:
    """Add a tile to `counts`, on the CPU; planes: those of all models."""
    if counts.size:
        add_signs(planes, np.array(kin, dtype=np.int64), counts)


def add_rows(counts: torch.Tensor, rows: torch.Tensor, limits: torch.Tensor, kin: Kin) -> None:
    """Add the entries of `rows`, float32 (N, entries), to `counts`, by torch operations on a GPU.

    limits: int32 (K, N, 1), the magnitude bits of each model's threshold at each density.
    """
    words = rows.view(torch.int32)
    bits = words & 0x7FFFFFFF
    is_there = (bits > 0) & (bits < INFINITY)
    for place, (merge, parent) in enumerate(kin):
        is_same = is_there[merge] & ((words[merge] ^ words[parent]) >= 0)
        for own, limit in zip(counts, limits[:, parent], strict=True):
            kept = is_there[parent] & (bits[parent] >= limit)
            own[place, 0] += (kept & is_same).sum()
            own[place, 1] += (kept & ~is_there[merge]).sum()
