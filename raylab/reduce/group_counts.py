"""How many of several models keep an entry, and whether they agree in its sign.

Model: at each density a model keeps the entries of its mask (see `raylab.reduce.masks`). Over a
group of n models, the entries are counted that exactly k of them keep, for k = 0 to n; and those
in conflict: two or more models keep them, not all in one direction (Yadav et al. 2023,
arXiv:2306.01708, figure 4).

    kept: int64 (K, W); of a group of n models n + 2 columns: entries that k = 0, ..., n models
    keep, then entries in conflict; the columns of one group stand after those of another

Invariant: counts are exact integers, the same for any slices, tiles, threads, shards and devices.
They take the entries that the masks of pairs take, and read nothing of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from raylab.reduce.bit_planes import add_groups
from raylab.reduce.histogram import INFINITY

Groups = Sequence[Sequence[int]]
"""By group: its models by index."""


def width_of(groups: Groups) -> int:
    """W above."""
    return sum(len(group) + 2 for group in groups)


def add_planes(kept: np.ndarray, planes: np.ndarray, numel: int, groups: Groups) -> None:
    """Add a tile of `numel` entries to `kept`, on the CPU; planes: those of all models."""
    if not kept.size:
        return
    sizes = np.array([len(group) for group in groups], dtype=np.int64)
    members = np.array([model for group in groups for model in group], dtype=np.int64)
    add_groups(planes, numel, members, sizes, kept)


def add_rows(kept: torch.Tensor, rows: torch.Tensor, limits: torch.Tensor, groups: Groups) -> None:
    """Add the entries of `rows`, float32 (N, entries), to `kept`, by torch operations on a GPU.

    limits: int32 (K, N, 1), the magnitude bits of each model's threshold at each density.
    """
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
