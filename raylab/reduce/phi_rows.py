"""Rows of the table phi: how much of two models' leading directions lies in each other's span.

Invariant: phi(i, j) of a level is the mean over its tensors, for the i and j that all of them have.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from raylab.reduce.subspaces import SIDES, TensorSubspaces
from raylab.weights.names import levels


def phi_rows(
    keys: Sequence[str],
    tensors: Mapping[str, TensorSubspaces],
    fresh: Collection[str] | None = None,
    by_tensor: bool = False,
) -> Iterator[dict[str, Any]]:
    """Rows for every pair of `keys`, or every one with a model of `fresh`, by level, key and side;
    those of tensors where asked. A pair without a common matrix has no row."""
    rows = {
        name: {(int(a), int(b)): row for row, (a, b) in enumerate(found.pairs)}
        for name, found in tensors.items()
    }
    for a, b in itertools.combinations(range(len(keys)), 2):
        if fresh is not None and keys[a] not in fresh and keys[b] not in fresh:
            continue
        own = {n: found.phi[rows[n][a, b]] for n, found in tensors.items()
               if found.phi is not None and (a, b) in rows[n]}  # fmt: skip
        for level, key, members in levels(own) if own else ():
            if level == "tensor" and not by_tensor:
                continue
            for side, phi in zip(SIDES, _mean([own[name] for name in members]), strict=True):
                yield {
                    "a": keys[a],
                    "b": keys[b],
                    "level": level,
                    "key": key,
                    "side": side,
                    "directions_a": phi.shape[0],
                    "directions_b": phi.shape[1],
                    "phi": phi.ravel().tolist(),
                    "tensors": len(members),
                }


def turned(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it is with its two models in the other order."""
    first, second = row["directions_a"], row["directions_b"]
    phi = np.reshape(row["phi"], (first, second)).T.ravel().tolist()
    return {**row, "directions_a": second, "directions_b": first, "phi": phi}


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The mean (sides, i, j) of arrays (sides, i, j) of several sizes, where all have a value."""
    sizes = [np.isfinite(part[0]) for part in parts]
    first = min(int(known.any(axis=1).sum()) for known in sizes)
    second = min(int(known.any(axis=0).sum()) for known in sizes)
    mean: np.ndarray = np.mean([part[:, :first, :second] for part in parts], axis=0)
    return mean
