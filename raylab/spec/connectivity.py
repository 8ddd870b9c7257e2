"""The lines between models that a study asks for.

Model: an item of `connectivity` names pairs of models by one of two forms, as one of `comparisons`
does, and the number of points of each line.
Invariant: a line has both its ends and one point between them at least.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from raylab.spec.sources import Frozen

MOST_POINTS = 1001
"""A thousandth of the line between two points: each point is a pass over all held-out answers."""


class Connectivity(Frozen):
    """Pairs of models whose line is evaluated: exactly one of `pair` and `seeds`."""

    pair: tuple[str, str] | None = None
    """Two recipes (or merges, or models), joined at each seed."""
    seeds: tuple[str, ...] | Literal["all"] | None = None
    """Recipes, each seed joined to each other seed: what other barriers are held against."""
    points: int = Field(default=9, ge=3, le=MOST_POINTS)
    """How many points of each line are evaluated, at equal distances, both ends included."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.pair is None) == (self.seeds is None):
            raise ValueError("give exactly one of `pair` and `seeds`")
        return self
