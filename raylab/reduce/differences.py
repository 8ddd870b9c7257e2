"""The difference of two models' rows, before it is added to sums.

Invariant: it is float32(a) - float32(b), whoever subtracts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raylab.reduce.entries import Entries, widened
from raylab.reduce.histogram_backend import Tally
from raylab.reduce.lora_product import Terms, product

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Difference:
    """a - b, not yet subtracted; b None: a itself. `left_out` entries were not finite.

    Rows of two checkpoints on the CPU are arrays of numpy, all others are tensors.
    """

    a: Entries
    b: Entries | None = None
    left_out: int = 0

    def add_to(self, tally: Tally, heights: Sequence[int] = ()) -> list[float] | None:
        """Add it to `tally`, in tiles of so many rows. The squares of each tile of b where they
        come at no cost, else None."""
        if self.b is None:
            tally.add(self.a)
            return None
        return tally.add_difference(self.a, self.b, heights)

    def values(self) -> Entries:
        """a - b, float32."""
        if self.b is None:
            return self.a
        if isinstance(self.a, np.ndarray):
            with np.errstate(over="ignore", invalid="ignore"):
                return widened(self.a) - widened(self.b)
        return self.a.float() - self.b.float()


@dataclass(frozen=True)
class LowRankDifference:
    """Rows [start, stop) of a - b, both low-rank deltas that are not yet multiplied out."""

    a: Terms
    b: Terms
    start: int
    stop: int
    left_out: int = 0

    def add_to(self, tally: Tally, heights: Sequence[int] = ()) -> None:
        """Add it to `tally`."""
        tally.add_products(self.a, self.b, self.start, self.stop)

    def values(self) -> torch.Tensor:
        """a - b, float32, with the bits that `add_to` adds."""
        one, *others = (product(t, self.start, self.stop) for t in (self.a, self.b) if t)
        if not self.a:
            return -one
        return one - others[0] if others else one


def finite(difference: Difference | LowRankDifference) -> Difference:
    """The same without the entries that are not finite."""
    import torch

    values = difference.values()
    kept = values[torch.isfinite(values)]
    return Difference(kept, None, values.numel() - kept.numel())
