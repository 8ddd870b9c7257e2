"""The masks of the largest entries of task vectors, over the models that are related.

Model: the deltas of N models over one tile are the rows of a matrix (N, entries), taken slice by
slice. A mask keeps |delta| >= threshold and > 0, the threshold being that of the model's whole
task vector (the first step of TIES-Merging, Yadav et al. 2023, arXiv:2306.01708). Masks are
counted for all pairs, and for groups of models (`raylab.reduce.group_counts`).
Invariant: counts are exact: products of signs and masks are integers below 2^24.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raylab.reduce.group_counts import Groups, add_counts, no_counts
from raylab.reduce.histogram import INFINITY
from raylab.reduce.kept_signs import Kin, add_signs, no_signs

_SLICE = 1 << 16
_SLICE_OF_GPU = 1 << 20

Deltas = Mapping[str, torch.Tensor | None]
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


def add_masks(total: dict[str, Masks], tensor: str, masks: Masks) -> None:
    """Add the masks of one tile to those of its tensor."""
    if tensor in total:
        total[tensor] += masks
    else:
        total[tensor] = masks


def on_host(array: Any) -> np.ndarray:
    """`array` itself, or the values of a tensor."""
    found: np.ndarray = array.cpu().numpy() if isinstance(array, torch.Tensor) else array
    return found


def masks_of(numel: int, deltas: Deltas, limits: Limits, related: Related = ALL_PAIRS) -> Masks:
    """The masks of one tile of `numel` entries; on a GPU they stay there."""
    device, chosen = device_of(deltas), related.chosen(deltas)
    counting = MaskCounts(limits, related, chosen, device)
    for rows in slices(numel, deltas):
        counting.add(rows)
    return counting.found.on_host() if device.type == "cpu" else counting.found


class MaskCounts:
    """Counts the masks at the thresholds of `limits`, slice by slice."""

    def __init__(
        self, limits: Limits, related: Related, chosen: np.ndarray, device: torch.device
    ) -> None:
        """Nothing is counted yet; `limits` has the models in their order."""
        densities = len(next(iter(limits.values()), ()))
        size = (densities, len(limits), len(limits))
        shared = torch.zeros(size, dtype=torch.int64, device=device)
        self._groups, self._kin = related.places(limits), related.places_of_kin(limits)
        kept = no_counts(densities, self._groups, device)
        self.found = Masks(shared, kept, no_signs(densities, self._kin, device))
        self._chosen = chosen
        by_model = torch.tensor([list(own) for own in limits.values()], dtype=torch.int32)
        self._limits = by_model.reshape(len(limits), -1).T.unsqueeze(2).to(device)

    def add(self, rows: torch.Tensor) -> None:
        """Take in float32 `rows` (N, entries)."""
        bits = rows.view(torch.int32) & 0x7FFFFFFF
        for kept, limit in zip(self.found.shared, self._limits, strict=True):
            mask = (bits >= limit) & (bits > 0) & (bits < INFINITY)
            kept += counts(mask.to(torch.float32), self._chosen)
        add_counts(self.found.kept, rows, self._limits, self._groups)
        add_signs(self.found.signs, rows, self._limits, self._kin)


def device_of(deltas: Deltas) -> torch.device:
    """Where the rows are."""
    known = next((rows for rows in deltas.values() if rows is not None), None)
    return torch.device("cpu") if known is None else known.device


def slices(numel: int, deltas: Deltas) -> Iterator[torch.Tensor]:
    """float32 (N, entries) of the models one below the other, zeros where one has no rows; none
    where no model changes the tile."""
    if all(rows is None for rows in deltas.values()):
        return
    device = device_of(deltas)
    most = _SLICE if device.type == "cpu" else _SLICE_OF_GPU
    flat = [None if rows is None else rows.reshape(-1) for rows in deltas.values()]
    for start in range(0, numel, most):
        stop = min(numel, start + most)
        nothing = torch.zeros(stop - start, device=device)
        yield torch.stack([nothing if rows is None else rows[start:stop] for rows in flat])


def counts(rows: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
    """int64 (N, N): products of rows of -1, 0 and 1, integers below 2^24, which are exact in
    float32; those of a row with itself, and with the rows chosen."""
    if chosen.all():
        return (rows @ rows.T).to(torch.int64)
    found = torch.diag((rows * rows).sum(dim=1))
    places = torch.from_numpy(np.flatnonzero(chosen)).to(rows.device)
    some = rows[places] @ rows.T
    found[places] = some
    found[:, places] = some.T
    return found.to(torch.int64)
