"""study -> comparisons: which pairs of models are subtracted.

Model: a comparison is an ordered pair (a, b) of models over one base model; b may be the base
model itself. The study's four forms (pair, base, seeds, pairs) are rows in FORMS, each a
function from the form's recipes to pairs of models.
Invariant: a pair stands once, under the name `a~b`, in the order of the study file; both sides
share a base model, and a seed unless seeds are what is compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.plan.merges import Planned, PlannedMerge
from raylab.spec.recipes import variants_of
from raylab.spec.study import Study

BASE = "base"


@dataclass(frozen=True)
class Model:
    """One side of a comparison: a trial, a merge, a finished model, or a base model itself.

    `lineage` names the trials whose adapters make its task vector, the oldest first; it is
    empty for all but trials.
    """

    name: str
    base_model: str
    recipe: str
    label: str
    method: str
    data: str
    seed: int | None
    learning_rate: float | None = None
    lineage: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedComparison:
    """The pair (a, b), the form of the study that asked for it, and its name `a~b`."""

    a: Model
    b: Model
    form: str

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.a.name}~{self.b.name}"


def plan_models(study: Study, planned: Sequence[Planned]) -> dict[str, Model]:
    """Every model of `study` that a comparison may name, by name: `planned`, then finished ones."""
    models = [_planned(item) for item in planned]
    models += [
        Model(name, item.base_model, name, name, item.method, item.data, item.seed)
        for name, item in study.models.items()
    ]
    return {model.name: model for model in models}


def plan_comparisons(study: Study, models: Mapping[str, Model]) -> list[PlannedComparison]:
    """All comparisons of `study`, each pair once, in the order of the file."""
    found: dict[str, PlannedComparison] = {}
    for asked in study.comparisons:
        for form, expand in FORMS.items():
            names = getattr(asked, form)
            if names is None:
                continue
            for a, b in expand(_Lookup(study, models), names):
                comparison = PlannedComparison(a, b, form)
                found.setdefault(comparison.name, comparison)
    return list(found.values())


def _planned(item: Planned) -> Model:
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
    )


@dataclass(frozen=True)
class _Lookup:
    study: Study
    models: Mapping[str, Model]

    def named(self, name: str) -> list[Model]:
        """The models that a recipe, a variant of one, a merge, or a finished model stands for."""
        recipes = {name, *(variant.name for variant in variants_of(self.study, name))}
        return [model for model in self.models.values() if model.recipe in recipes]

    def all_of(self, names: Any) -> list[Model]:
        """The models of several names, or of `all`."""
        if names == "all":
            return list(self.models.values())
        return [model for name in names for model in self.named(name)]

    def point(self, model: Model) -> Mapping[str, Any]:
        """The values of the sweep that the model is a variant of."""
        found = variants_of(self.study, model.recipe)
        return found[0].point if found else {}


Pairs = Iterator[tuple[Model, Model]]


def _pair(lookup: _Lookup, names: tuple[str, str]) -> Pairs:
    for a, b in itertools.product(lookup.named(names[0]), lookup.named(names[1])):
        if _together(a, b) and _same_point(lookup, a, b):
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
        if _together(a, b):
            yield a, b


def _together(a: Model, b: Model) -> bool:
    seeds = {a.seed, b.seed} - {None}
    return a.name != b.name and a.base_model == b.base_model and len(seeds) <= 1


def _same_point(lookup: _Lookup, a: Model, b: Model) -> bool:
    """Variants of two sweeps meet where the parameters that both sweep are equal."""
    left, right = lookup.point(a), lookup.point(b)
    return all(left[key] == right[key] for key in {*left} & {*right})


FORMS: dict[str, Callable[[_Lookup, Any], Pairs]] = {
    "pair": _pair,
    "base": _base,
    "seeds": _seeds,
    "pairs": _pairs,
}
