"""Norms that were published elsewhere, shown beside the measured ones.

Model: a value belongs to a pair of recipes at a seed, on one base model; it is a claim of its
`source`, and enters no trial's identity and no computation but a ratio in the report.
Invariant: at least one of the two norms is given; that the recipes exist is checked by
`raylab.spec.validation`. Nothing here touches a file.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from raylab.spec.seeds import Seed
from raylab.spec.sources import Frozen, Name


class Printed(Frozen):
    """The norms of the difference of two trials, as `source` gives them."""

    pair: tuple[str, str]
    """Two recipes, or variants of swept ones."""
    seed: Seed
    """A number, or `{init: 42, order: 7}`."""
    base_model: Name | None = None
    """Needed where the study has several."""
    l1: float | None = Field(default=None, gt=0)
    l2: float | None = Field(default=None, gt=0)
    source: str = Field(min_length=1)
    """The publication."""

    @model_validator(mode="after")
    def _some_norm(self) -> Self:
        if self.l1 is None and self.l2 is None:
            raise ValueError("give `l1`, `l2` or both")
        return self
