"""The masks of the largest entries of task vectors, over the models that are related.

Model: a mask keeps |delta| >= threshold and > 0, the threshold being that of the model's whole
task vector (the first step of TIES-Merging, Yadav et al. 2023, arXiv:2306.01708). Masks are
counted for all pairs, and for groups of models (`raylab.reduce.group_counts`).
Invariant: counts are exact integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from raylab.reduce.group_counts import Groups
    from raylab.reduce.kept_signs import Kin
    from raylab.reduce.lora_product import ProductRows

Deltas = Mapping[str, "torch.Tensor | ProductRows | None"]
"""By model: float32 rows of its task vector; None where it does not change the tensor."""
Limits = Mapping[str, Sequence[int]]
"""By model: the magnitude bits of its threshold at each density."""


@dataclass(frozen=True)
class Related:
    """Which of the models are related: pairs with one of `fresh` (None: all), `groups`, and `kin`:
    merges, each with one of its models."""

    fresh: frozenset[str] | None = None
    groups: tuple[tuple[str, ...], ...] = ()
    kin: tuple[tuple[str, str], ...] = ()

    def chosen(self, models: Mapping[str, Any]) -> np.ndarray:
        """bool (N,): whether all pairs with a model are taken; those of a merge are for `kin`."""
        asked = None if self.fresh is None else self.fresh | {merge for merge, _ in self.kin}
        known = [asked is None or key in asked for key in models]
        return np.array(known, dtype=np.bool_)

    def pairs(self, models: Mapping[str, Any]) -> np.ndarray:
        """bool (N, N): the pairs that are asked for, with each model beside itself."""
        chosen = self.chosen(models)
        return chosen[:, None] | chosen | np.eye(len(chosen), dtype=np.bool_)

    def places(self, models: Mapping[str, Any]) -> Groups:
        """The groups with their models by index."""
        places = {key: place for place, key in enumerate(models)}
        return [[places[key] for key in group] for group in self.groups]

    def places_of_kin(self, models: Mapping[str, Any]) -> Kin:
        """The merges and their parents by index."""
        places = {key: place for place, key in enumerate(models)}
        return [(places[merge], places[parent]) for merge, parent in self.kin]


ALL_PAIRS = Related()


@dataclass
class Masks:
    """Of one tensor. shared: int64 (K, N, N), how many entries the masks of two models share at
    each density. kept: see `raylab.reduce.group_counts`; signs: see `raylab.reduce.kept_signs`. On
    a GPU all are torch tensors there."""

    shared: Any
    kept: Any
    signs: Any

    def __iadd__(self, other: Masks) -> Masks:
        self.shared += other.shared
        self.kept += other.kept
        self.signs += other.signs
        return self

    def on_host(self) -> Masks:
        """The same as arrays."""
        return Masks(on_host(self.shared), on_host(self.kept), on_host(self.signs))


def on_host(array: Any) -> np.ndarray:
    """`array` itself, or the values of a tensor."""
    found: np.ndarray = array if isinstance(array, np.ndarray) else array.cpu().numpy()
    return found
