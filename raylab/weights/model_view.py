"""A model of a merge as its rows are asked for, whatever it is made of.

Model: `raylab.weights.views.ViewedModel` is one, of a checkpoint or of adapters, and
`raylab.weights.mapped_rows.MappedModel` one whose rows follow the output's tokens.
Invariant: names and shapes are those of the merge's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from raylab.weights.checkpoint import Checkpoint
from raylab.weights.safetensors_reader import Rows, Shape

if TYPE_CHECKING:
    import torch

    from raylab.weights.adapter import Adapter
    from raylab.weights.adapter_parts import Factors


class ModelView(Protocol):
    """A model of a merge, by rows, as `raylab.weights.views.ViewedModel` has it."""

    shapes: Mapping[str, Shape]

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Those that it is made of, the oldest first."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint that it is, whose rows are views of files; None for anything else."""

    @property
    def has_values(self) -> bool:
        """Whether it has weights of its own."""

    @property
    def is_checkpoint(self) -> bool:
        """Whether it has every tensor."""

    def changes(self, name: str) -> bool:
        """Whether it has rows of its own of the parameter `name`."""

    def stored(self, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop) of a checkpoint, uint16 being bfloat16."""

    def delta(self, name: str, start: int, stop: int) -> torch.Tensor | None:
        """Rows [start, stop) of its task vector, float32; None where it has none."""

    def plain_factors(self, name: str) -> tuple[Factors, ...]:
        """The factors whose products add up to its task vector; none where it is something else."""
