"""study -> comparisons: the pairs of models that are subtracted.

Model: a comparison is an ordered pair (a, b) of models over one base model; b may be the base
model itself. FORMS has a row for each form of the study (pair, base, seeds, pairs): a function
from the names in the form to pairs of models.
Invariant: a pair occurs once, under the name `a~b`, in the order of the study file. Both models
have the same base model; they also have the same seed, except in the form `seeds`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.plan.merges import Planned, PlannedMerge
from raylab.spec.merge_variants import merge_variants_of
from raylab.spec.recipes import variants_of
from raylab.spec.seeds import Seeds
from raylab.spec.study import Comparison, Connectivity, Study
from raylab.spec.swept_names import are_equal

BASE = "base"


@dataclass(frozen=True)
class Model:
    """One side of a comparison: a trial, a merge, a finished model, or a base model.

    `lineage` names the trials whose adapters make its task vector, the oldest first; it is empty
    if the model is not a trial.
    """

    name: str
    base_model: str
    recipe: str
    label: str
    method: str
    data: str
    seed: Seeds | None
    learning_rate: float | None = None
    lineage: tuple[str, ...] = ()
    is_adapter: bool = False
    """Whether it is a merge that is written as an adapter."""


@dataclass(frozen=True)
class PlannedComparison:
    """The pair (a, b), and the form of the study that names it."""

    a: Model
    b: Model
    form: str

    @property
    def name(self) -> str:
        """The name in the tables: `a~b`."""
        return f"{self.a.name}~{self.b.name}"


def plan_models(study: Study, planned: Sequence[Planned]) -> dict[str, Model]:
    """Every model that a comparison may name, by its name: `planned`, then the finished models."""
    models = [_planned_model(item) for item in planned]
    models += [
        Model(name, item.base_model, name, name, item.method, item.data, item.seed)
        for name, item in study.models.items()
    ]
    return {model.name: model for model in models}


def plan_comparisons(study: Study, models: Mapping[str, Model]) -> list[PlannedComparison]:
    """All comparisons of `study`, each pair once, in the order of the file."""
    found: dict[str, PlannedComparison] = {}
    for asked in study.comparisons:
        for comparison in comparisons_of(study, models, asked):
            found.setdefault(comparison.name, comparison)
    return list(found.values())


def comparisons_of(
    study: Study, models: Mapping[str, Model], asked: Comparison | Connectivity
) -> Iterator[PlannedComparison]:
    """The pairs that one item of a study names."""
    lookup = _Lookup(study, models)
    for form, expand in FORMS.items():
        names = getattr(asked, form, None)
        if names is not None:
            yield from (PlannedComparison(a, b, form) for a, b in expand(lookup, names))


def first_pair(comparisons: Sequence[PlannedComparison]) -> frozenset[str]:
    """The trials that the first comparison of two trials needs, with their parents; they train
    first, so that a study shows a result early. Empty if no comparison is one of two trials."""
    for comparison in comparisons:
        if comparison.a.lineage and comparison.b.lineage:
            return frozenset((*comparison.a.lineage, *comparison.b.lineage))
    return frozenset()


def comparisons_without_pairs(study: Study, planned: Sequence[Planned]) -> Iterator[str]:
    """A warning for each item of `comparisons` that compares nothing."""
    models = plan_models(study, planned)
    for index, asked in enumerate(study.comparisons):
        if next(comparisons_of(study, models, asked), None) is None:
            form, names = next((f, n) for f in FORMS if (n := getattr(asked, f)) is not None)
            listed = names if isinstance(names, str) else ", ".join(names)
            item = f"comparisons.{index} ({form}: {listed})"
            yield f"{item} compares nothing: it needs {_NEEDS[form]}"


def models_named(study: Study, models: Mapping[str, Model], name: str) -> list[Model]:
    """The models of a recipe, a variant, a merge, or a finished model."""
    return _Lookup(study, models).named(name)


def _planned_model(item: Planned) -> Model:
    row = item.row
    return Model(
        item.name,
        item.base_model,
        row["recipe"],
        row["label"],
        row["method"],
        row["data"],
        item.seed,
        row.get("learning_rate"),
        () if isinstance(item, PlannedMerge) else (*item.lineage, item.name),
        isinstance(item, PlannedMerge) and item.is_adapter,
    )


@dataclass(frozen=True)
class _Lookup:
    study: Study
    models: Mapping[str, Model]

    def named(self, name: str) -> list[Model]:
        """The models of a recipe, a variant, a merge, or a finished model."""
        recipes = {
            name,
            *(variant.name for variant in variants_of(self.study, name)),
            *(variant.name for variant in merge_variants_of(self.study, name)),
        }
        return [model for model in self.models.values() if model.recipe in recipes]

    def all_of(self, names: Any) -> list[Model]:
        """The models of several names; all models for `all`."""
        if names == "all":
            return list(self.models.values())
        return [model for name in names for model in self.named(name)]

    def have_equal_sweep_values(self, a: Model, b: Model) -> bool:
        """Whether all parameters that both models' recipes sweep have equal values."""
        points: list[Mapping[str, Any]] = []
        for model in (a, b):
            swept = [variant.point for variant in variants_of(self.study, model.recipe)]
            swept += [merge.point for merge in merge_variants_of(self.study, model.recipe)]
            points.append(swept[0] if swept else {})
        left, right = points
        return all(are_equal(left[key], right[key]) for key in {*left} & {*right})


Pairs = Iterator[tuple[Model, Model]]


def _pair(lookup: _Lookup, names: tuple[str, str]) -> Pairs:
    for a, b in itertools.product(lookup.named(names[0]), lookup.named(names[1])):
        if _are_comparable(a, b) and lookup.have_equal_sweep_values(a, b):
            yield a, b


def _base(lookup: _Lookup, names: Any) -> Pairs:
    for model in lookup.all_of(names):
        base = model.base_model
        yield model, Model(base, base, BASE, base, BASE, "", None)


def _seeds(lookup: _Lookup, names: Any) -> Pairs:
    for a, b in itertools.combinations(lookup.all_of(names), 2):
        if a.base_model == b.base_model and a.recipe == b.recipe and a.seed != b.seed:
            yield a, b


def _pairs(lookup: _Lookup, names: Any) -> Pairs:
    for a, b in itertools.combinations(lookup.all_of(names), 2):
        if _are_comparable(a, b):
            yield a, b


def _are_comparable(a: Model, b: Model) -> bool:
    """Whether they are two models of one base model and, if both have one, one seed."""
    seeds = {a.seed, b.seed} - {None}
    return a.name != b.name and a.base_model == b.base_model and len(seeds) <= 1


FORMS: dict[str, Callable[[_Lookup, Any], Pairs]] = {
    "pair": _pair,
    "base": _base,
    "seeds": _seeds,
    "pairs": _pairs,
}
_NEEDS = {
    "pair": "two models of one base model and one seed, with equal values of what both sweep",
    "base": "a model",
    "seeds": "a recipe with two seeds",
    "pairs": "two models of one base model and one seed",
}
"""What an item of each form needs to name a pair."""
