"""The spaces in which models are compared: size and direction of the change, and predictions.

Model: a space has one value for two models over one base model, whichever is named first.
    far       |log(|a| / |b|)|, of the L2 norms of both task vectors
    where     overlap of the output sides of both deltas (table subspaces, whole model, all of the
              energy), with the overlap that random spaces would have
    delta     L2 of the difference of both task vectors
    function  (KL(a || b) + KL(b || a)) / 2 on the held-out answers, nats a token: the mean over
              data sets, by their tokens
Invariant: a value that was not measured, or is not finite, is missing, and never zero.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from raylab.report.findings.trained_models import Distances, Model
from raylab.report.study_tables import VIEW, Tables, finite, grouped

Pair = frozenset[str]
"""The names of two models."""


@dataclass(frozen=True)
class Space:
    """The values of one space, by pair of models.

    is_likeness: whether a larger value says that two models are more alike. chance: the value
    that unrelated models would have, where it is not zero.
    """

    key: str
    values: Mapping[Pair, float] = field(repr=False)
    is_likeness: bool = False
    chance: Mapping[Pair, float] = field(default_factory=dict, repr=False)

    def value(self, a: Model, b: Model) -> float | None:
        """The value of two models; None where it was not measured."""
        return self.values.get(frozenset((a.name, b.name)))

    def chance_of(self, a: Model, b: Model) -> float:
        """The value that the two would have if they were unrelated."""
        return self.chance.get(frozenset((a.name, b.name)), 0.0)


def spaces_of(tables: Tables, models: Sequence[Model]) -> list[Space]:
    """Every space, with its values for `models`, which are over one base model."""
    return [make(tables, models) for make in SPACES.values()]


def _far(tables: Tables, models: Sequence[Model]) -> Space:
    pairs = itertools.combinations(models, 2)
    values = {frozenset((a.name, b.name)): abs(math.log(a.l2 / b.l2)) for a, b in pairs}
    return Space("far", values)


def _where(tables: Tables, models: Sequence[Model]) -> Space:
    names = {model.name for model in models}
    values: dict[Pair, float] = {}
    chance: dict[Pair, float] = {}
    for row in tables.rows("subspaces", view=VIEW, level="all", side="output"):
        pair = frozenset((row["a"], row["b"]))
        overlap, by_chance = finite(row["overlap"]), finite(row["chance"])
        if row["energy"] == 1 and pair <= names and overlap is not None and by_chance is not None:
            values[pair], chance[pair] = overlap, by_chance
    return Space("where", values, is_likeness=True, chance=chance)


def _delta(tables: Tables, models: Sequence[Model]) -> Space:
    distances = Distances(tables)
    values = {}
    for a, b in itertools.combinations(models, 2):
        found = distances.between(a, b)
        if found is not None:
            values[frozenset((a.name, b.name))] = found.value
    return Space("delta", values)


def _function(tables: Tables, models: Sequence[Model]) -> Space:
    names = {model.name for model in models}
    rows = tables.rows("functions", answers="held_out")
    values = {}
    for pair, of_pair in grouped(rows, lambda row: frozenset((row["a"], row["b"]))).items():
        tokens = sum(row["tokens"] for row in of_pair)
        known = [r for r in of_pair if None not in (finite(r["kl_ab"]), finite(r["kl_ba"]))]
        if pair <= names and tokens and len(known) == len(of_pair):
            sums = (row["tokens"] * (row["kl_ab"] + row["kl_ba"]) / 2 for row in known)
            values[pair] = math.fsum(sums) / tokens
    return Space("function", values)


SPACES: Mapping[str, Callable[[Tables, Sequence[Model]], Space]] = {
    "far": _far,
    "where": _where,
    "delta": _delta,
    "function": _function,
}
"""By key, in the order of the report."""
