"""Rows of the table kept_of: what a merge keeps of each of its models.

Invariant: a row's counts are those of all its tensors, exact; the cosine is that of the table
pairs, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from raylab.reduce.pairwise import Relation, cosine_of
from raylab.weights.names import levels


def kept_rows(
    keys: Sequence[str],
    kin: Sequence[tuple[str, str]],
    relation: Relation,
    densities: Sequence[float],
    by_tensor: bool = False,
) -> Iterator[dict[str, Any]]:
    """Rows for every merge and parent of `kin` by `keys`, level, key and density; those of tensors
    where asked. A level has those tensors that either of the two changes."""
    places = {key: place for place, key in enumerate(keys)}
    for index, (merge, parent) in enumerate(kin):
        pair = places[merge], places[parent]
        touched = [n for n, part in relation.tensors.items() if part.touched[list(pair)].any()]
        for level, key, members in levels(touched):
            if level == "tensor" and not by_tensor:
                continue
            parts = [relation.tensors[name] for name in members]
            common = {
                "merge": merge,
                "parent": parent,
                "level": level,
                "key": key,
                "numel": sum(part.numel for part in parts),
                "cosine": cosine_of(parts, *pair),
            }
            for place, density in enumerate(densities):
                largest = sum(int(part.masks.shared[place, pair[1], pair[1]]) for part in parts)
                survived, zero = (
                    sum(int(part.masks.signs[place, index, kind]) for part in parts)
                    for kind in (0, 1)
                )
                yield {
                    **common,
                    "density": density,
                    "largest": largest,
                    "survived": survived,
                    "zero": zero,
                    "survived_share": survived / largest if largest else None,
                }
