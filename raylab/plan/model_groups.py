"""Groups of trained models whose task vectors are compared all at once.

Model: over one base model, all trials are a group; so are those of one seed, and those of one
recipe over the seeds.
Invariant: groups come in that order, each with its models in the order of the plan. None has fewer
than two models, or those of a group before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from raylab.plan.trials import Trial


@dataclass(frozen=True)
class ModelGroup:
    """Some models. name: the seed or the recipe that they share; None for all."""

    kind: Literal["all", "seed", "recipe"]
    name: str | None
    models: tuple[str, ...]


def groups_of(trials: Iterable[Trial]) -> Iterator[ModelGroup]:
    """The groups of the trials over one base model."""
    known: set[tuple[str, ...]] = set()
    for group in _all_groups(list(trials)):
        if len(group.models) > 1 and group.models not in known:
            known.add(group.models)
            yield group


def _all_groups(trials: list[Trial]) -> Iterator[ModelGroup]:
    yield ModelGroup("all", None, tuple(t.name for t in trials))
    for seed in dict.fromkeys(t.seed for t in trials):
        yield ModelGroup("seed", str(seed), tuple(t.name for t in trials if t.seed == seed))
    for recipe in dict.fromkeys(t.variant.name for t in trials):
        of_recipe = tuple(t.name for t in trials if t.variant.name == recipe)
        yield ModelGroup("recipe", recipe, of_recipe)
