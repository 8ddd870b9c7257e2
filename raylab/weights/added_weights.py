"""A base model with adapters over it as one whole model, not rounded to the base model's dtype.

Model: rows are those of PEFT's forward pass: the base model's, plus each adapter's delta. Where the
base model ties two weights and an adapter moves one otherwise than the other, both are weights.
Invariant: a row is float32(W) + the delta, both float32, rounded once to float32; of several
adapters the deltas are added up before, the oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

import torch

from raylab.weights.adapter import Adapter
from raylab.weights.checkpoint import Checkpoint
from raylab.weights.safetensors_reader import Rows, Shape
from raylab.weights.torch_rows import as_numpy


class AddedWeights:
    """The weights of `base` with adapters added, by rows. Safe in any number of threads."""

    def __init__(self, base: Checkpoint, adapters: Sequence[Path]) -> None:
        """Open the adapters, each trained from `base`; reads headers only. Raises ModelError."""
        self._base = base
        self._adapters = [Adapter.open(path, base) for path in adapters]
        self._untied = {
            name: partner
            for alias, partner in base.aliases.items()
            for adapter in self._adapters
            if (name := adapter.untied_name(alias, partner))
        }
        self.names_in_memory = base.names_in_memory
        self.shapes: Mapping[str, Shape] = {
            **base.shapes,
            **{name: base.shapes[partner] for name, partner in self._untied.items()},
        }

    def stored_name(self, name: str) -> str | None:
        """The name in `shapes` of the parameter that a module tree calls `name`, if it is there."""
        return name if name in self._untied else self._base.stored_name(name)

    def is_alias(self, name: str) -> bool:
        """Whether `name` is tied to another parameter."""
        return name not in self._untied and self._base.is_alias(name)

    def dtype(self, name: str) -> str:
        """That of all its rows."""
        del name
        return "F32"

    def stored(self, name: str, start: int, stop: int) -> Rows:
        """`raw` as an array of the same memory."""
        return as_numpy(self.raw(name, start, stop))

    def raw(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop), 2-D, float32, contiguous."""
        rows = self._base.raw(name, start, stop).float()
        deltas = [a.rows(name, start, stop) for a in self._adapters if a.changes(name)]
        return rows + reduce(torch.add, deltas) if deltas else rows
