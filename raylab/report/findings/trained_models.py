"""The trained models that findings are about: their factors, their distances, their labels.

Model: a model is a row of the trials table that is done and has a norm; a merge is none, for it
has no method of training. Its recipe is its name without the seed, and so is its parent.

    distance(a, b) = L2 of the difference of two task vectors,

taken from the norms table where the pair was compared, else from the pairs table by

    distance^2 = |a|^2 + |b|^2 - 2 cos(a, b) |a| |b|                 (law of cosines)

whose error is that of the cosine: about |a| |b| e / distance for a cosine that is off by e.
Invariant: a pair has one distance, whichever side is named first.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from raylab.report.study_tables import VIEW, Tables, finite, grouped, parent_recipe_of, recipe_of
from raylab.spec.merge_methods import is_merge
from raylab.spec.seeds import COLUMNS, Seeds, seeds_of
from raylab.spec.swept_names import rate_text

FACTORS = ("method", "data", "learning_rate", "parent", "seed")
SEEDS = (*FACTORS[:-1], *COLUMNS)
"""The same, with a factor for each source of randomness."""
SEPARATOR = "+"
"""Stands between the names of factors that cannot be separated."""


@dataclass(frozen=True)
class Model:
    """One trained model.

    `factors` are its levels of FACTORS, `l2` is the norm of its task vector. `settings` are its
    other hyperparameters; they are empty where the study is not at hand.
    """

    name: str
    base_model: str
    recipe: str
    label: str
    factors: Mapping[str, Any]
    l2: float
    marked: bool
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> Seeds:
        """Its seed: of everything, or one for each source of randomness."""
        return Seeds(*(self.factors[name] for name in COLUMNS))


def models_of(tables: Tables) -> list[Model]:
    """Every trained model with a norm above zero, in the order of the trials table."""
    models = []
    for row in tables["trials"]:
        if row["status"] != "done" or is_merge(row) or not (finite(row["l2"]) or 0.0) > 0:
            continue
        recipe = recipe_of(row)
        factors = {name: row[name] for name in FACTORS} | {"parent": parent_recipe_of(row)}
        seed = seeds_of(row)
        factors |= {**seed.columns, "seed": seed.level} if seed else {}
        models.append(
            Model(
                name=row["name"],
                base_model=row["model"],
                recipe=recipe,
                label=str(row["label"] or row["recipe"]),
                factors=factors,
                l2=row["l2"],
                marked=bool(row["marked"]),
                settings=tables.settings_of_variant(recipe.removeprefix(f"{row['model']}.")),
            )
        )
    return models


def are_tied(models: Sequence[Model]) -> bool:
    """Whether one number is the seed of everything in each model."""
    return all(model.seed.is_tied for model in models)


def factors_of(models: Sequence[Model]) -> tuple[str, ...]:
    """FACTORS, or SEEDS where the seeds of some model are not one number."""
    return FACTORS if are_tied(models) else SEEDS


def by_base_model(models: Sequence[Model]) -> dict[str, list[Model]]:
    """The models of each base model."""
    return grouped(models, lambda model: model.base_model)


def by_recipe(models: Sequence[Model]) -> dict[str, list[Model]]:
    """The models of each recipe: one for each seed."""
    return grouped(models, lambda model: model.recipe)


def differing_parts(a: Model, b: Model) -> tuple[str, ...]:
    """The columns of the seed in which two models differ."""
    return tuple(name for name in COLUMNS if a.factors[name] != b.factors[name])


def varied_parts(models: Sequence[Model]) -> tuple[str, ...]:
    """The columns of the seed in which two of `models` differ."""
    return tuple(name for name in COLUMNS if len({model.factors[name] for model in models}) > 1)


def differ_in(varied: Sequence[str]) -> Callable[[Model, Model], bool]:
    """Whether the seeds of two models differ in all of `varied`, and in nothing else; of models
    whose seeds do not vary no two do."""
    return lambda a, b: bool(varied) and differing_parts(a, b) == tuple(varied)


def at_other_seeds(pairs: Sequence[tuple[Model, Model]]) -> list[tuple[Model, Model]]:
    """The pairs whose seeds have no number in common; if there is none, those of other seeds.

    Models that start from one A, or see their rows in one order, are not two seeds apart.
    """
    unlike = [(a, b) for a, b in pairs if a.seed != b.seed]
    return [(a, b) for a, b in unlike if not a.seed.shares(b.seed)] or unlike


@dataclass(frozen=True)
class Distance:
    """The distance of two models, and the table that it comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class Distances:
    """The distances between models of a study."""

    tables: Tables

    @cached_property
    def _measured(self) -> dict[frozenset[str], float]:
        rows = self.tables.norms()
        return {frozenset((r["a"], r["b"])): r["l2"] for r in rows if finite(r["l2"]) is not None}

    @cached_property
    def _cosines(self) -> dict[frozenset[str], float]:
        rows = self.tables.rows("pairs", view=VIEW, level="all")
        known = (row for row in rows if finite(row["cosine"]) is not None)
        return {frozenset((row["a"], row["b"])): row["cosine"] for row in known}

    def between(self, a: Model, b: Model) -> Distance | None:
        """The distance of `a` and `b`; None where no table has it."""
        key = frozenset((a.name, b.name))
        if key in self._measured:
            return Distance(self._measured[key], "norms")
        if key not in self._cosines:
            return None
        # In one order of the two, so that a pair has one distance to the last bit.
        small, large = sorted((a.l2, b.l2))
        square = small**2 + large**2 - 2 * self._cosines[key] * small * large
        return Distance(math.sqrt(max(square, 0.0)), "pairs")

    def among(self, models: Sequence[Model]) -> list[float]:
        """The known distances of every two of `models` that `at_other_seeds` keeps."""
        pairs = at_other_seeds(list(itertools.combinations(models, 2)))
        found = (self.between(a, b) for a, b in pairs)
        return [distance.value for distance in found if distance is not None]


@dataclass(frozen=True)
class RecipePair:
    """The models of two recipes that differ in one factor.

    `other_settings` are the names of the settings that differ as well.
    """

    factor: str
    a: Sequence[Model]
    b: Sequence[Model]
    other_settings: tuple[str, ...]


def recipes_of(pairs: Sequence[RecipePair]) -> dict[str, Sequence[Model]]:
    """The models of every recipe among `pairs`, each recipe once."""
    return {side[0].recipe: side for pair in pairs for side in (pair.a, pair.b)}


def one_factor_pairs(models: Sequence[Model]) -> list[RecipePair]:
    """Every two recipes of one base model that differ in one factor, or else in one setting.

    Pairs that differ in a factor and in settings are kept only where no two recipes differ in
    that factor alone. A setting that one of the two methods has no use for is no difference.
    """
    pairs = []
    for a, b in itertools.combinations(by_recipe(models).values(), 2):
        one, other = a[0], b[0]
        factors = [n for n in FACTORS if n != "seed" and one.factors[n] != other.factors[n]]
        values = {n: (value, other.settings.get(n)) for n, value in one.settings.items()}
        settings = tuple(n for n, (x, y) in values.items() if None not in (x, y) and x != y)
        if len(factors) == 1:
            pairs.append(RecipePair(factors[0], a, b, settings))
        elif not factors and len(settings) == 1:
            pairs.append(RecipePair(settings[0], a, b, ()))
    unconfounded = {pair.factor for pair in pairs if not pair.other_settings}
    return [p for p in pairs if not p.other_settings or p.factor not in unconfounded]


def labels_of(models: Sequence[Model]) -> dict[str, str]:
    """A short name for each recipe, which no other recipe of its base model has.

    It is the recipe's label, with the learning rate where two labels are equal, else the recipe.
    """
    examples = {recipe: seeds[0] for recipe, seeds in by_recipe(models).items()}
    labels = {recipe: model.label for recipe, model in examples.items()}
    with_rate = {
        recipe: f"{model.label} {rate_text(recipe, model.factors['learning_rate'])}"
        for recipe, model in examples.items()
    }
    for longer in (with_rate, {recipe: recipe for recipe in examples}):
        counts = Counter((examples[recipe].base_model, label) for recipe, label in labels.items())
        labels = {
            recipe: longer[recipe] if counts[examples[recipe].base_model, label] > 1 else label
            for recipe, label in labels.items()
        }
    return labels
