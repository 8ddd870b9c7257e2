"""Rows of the table kept_by: how many models of a group keep the same entries.

Invariant: a row's counts are those of all its tensors, exact; they add up to its numel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from raylab.reduce.pairwise import Relation
from raylab.weights.names import levels

if TYPE_CHECKING:
    from raylab.reduce.products import Products


def group_rows(
    keys: Sequence[str],
    groups: Sequence[Sequence[str]],
    relation: Relation,
    densities: Sequence[float],
    by_tensor: bool = False,
) -> Iterator[dict[str, Any]]:
    """Rows for every group of `keys`, level, key and density; those of tensors where asked. A
    level of a group has those tensors that any of its models changes."""
    places = {key: place for place, key in enumerate(keys)}
    first = 0
    for group in groups:
        models = [places[key] for key in group]
        columns = slice(first, first + len(group) + 2)
        first = columns.stop
        touched = [name for name, part in relation.tensors.items() if part.touched[models].any()]
        for level, key, members in levels(touched):
            if level == "tensor" and not by_tensor:
                continue
            parts = [relation.tensors[name] for name in members]
            common = {"models": list(group), "level": level, "key": key}
            for index, density in enumerate(densities):
                yield {**common, "density": density, **_counts(parts, index, models, columns)}


def _counts(
    parts: Sequence[Products], density: int, models: Sequence[int], columns: slice
) -> dict[str, Any]:
    numel = sum(part.numel for part in parts)
    total = sum((part.masks.kept[density, columns] for part in parts), np.int64(0))
    # Where no model changes a tile, none of its entries was counted.
    _, *some, conflicts = np.asarray(total).tolist()
    counts = [numel - sum(some), *some]
    kept = [sum(int(part.masks.shared[density, m, m]) for part in parts) for m in models]
    shared = sum(counts[2:])
    return {
        "numel": numel,
        "by_all": counts[-1],
        "by_some": sum(counts[2:-1]),
        "by_one": counts[1],
        "by_none": counts[0],
        "counts": counts,
        "all_by_chance": numel * math.prod(own / numel for own in kept) if numel else None,
        "conflicts": conflicts,
        "sign_conflict": conflicts / shared if shared else None,
    }
