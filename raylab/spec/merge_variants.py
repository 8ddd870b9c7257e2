"""Merges of a study as they will be made.

Model: a merge of the study file with a sweep becomes one variant for every combination of its
values, named `<merge>.<setting>=<value>` as variants of recipes are. A sweep has `density`,
`lambda`, `weight` (of the first model; the others share what is left of 1), `rank` or `energy` of
an adapter, and the method's own parameters. Each variant is made for the base models and seeds that
have all of its models.
Invariant: the order of variants follows the study file alone; the settings of a variant are a
merge without a sweep.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from raylab.spec.merge_methods import METHODS
from raylab.spec.recipes import Variant, expand_recipes, trial_name, variants_of
from raylab.spec.seeds import Seeds
from raylab.spec.study import Comparison, FinishedModel, Merge, Study
from raylab.spec.sweeps import name_at, points_of_sweep, variants_named
from raylab.spec.swept_names import WrittenFloat, by_value

Slot = tuple[str, Seeds | None]
"""A base model and a seed; None where a merge of finished models has no seed."""

FIELDS = {
    "density": "density",
    "lambda": "lambda",
    "weight": "weights",
    "rank": "rank",
    "energy": "energy",
}
"""What a sweep may set beside the method's own parameters, and the field of a merge for it."""


@dataclass(frozen=True)
class MergeVariant:
    """One merge with a value for every setting; `merge` is its name in the study file."""

    name: str
    merge: str
    settings: Merge
    point: Mapping[str, Any]


def swept_settings(method: str) -> tuple[str, ...]:
    """The keys that a sweep of a merge by `method` may use."""
    return (*FIELDS, *METHODS[method].parameters)


def expand_merges(study: Study) -> dict[str, MergeVariant]:
    """All variants of all merges of `study` by name, in the order of the file.

    Raises pydantic.ValidationError where a value is out of bounds.
    """
    found = (variant for name in study.merges for variant in _expand(study, name))
    return {variant.name: variant for variant in found}


def merge_variants_of(study: Study, name: str) -> list[MergeVariant]:
    """The variants with the name `name`: all variants of a merge, or one variant, whose values may
    be spelled in any way."""
    return variants_named(name, study.merges, partial(_expand, study))


def settings_at(merge: Merge, point: Mapping[str, Any]) -> Merge:
    """`merge` with the values of a sweep's `point`, and without a sweep.

    Raises pydantic.ValidationError where a value is out of bounds.
    """
    values = {name: found for name, found in merge if name != "sweep"}
    for key, found in point.items():
        value = float(found) if isinstance(found, WrittenFloat) else found
        if key not in FIELDS:
            values["parameters"] = {**values["parameters"], key: value}
        elif key == "weight":
            values["weights"] = _weights(value, len(merge.models))
        else:
            values[key] = value
    # A sweep may hold flags and texts, which are no numbers.
    return Merge.model_validate(values, strict=True)


def _weights(first: Any, count: int) -> tuple[Any, ...]:
    """`first`, and what is left of 1 shared by the others, exact in the decimal that is written."""
    is_number = type(first) in (int, float) and math.isfinite(first)
    rest = float((1 - Fraction(str(first))) / (count - 1)) if is_number else first
    return (first, *[rest] * (count - 1))


def _expand(study: Study, name: str) -> Iterator[MergeVariant]:
    merge = study.merges[name]
    for point in points_of_sweep(merge.sweep):
        yield MergeVariant(name_at(name, point), name, settings_at(merge, point), point)


def with_names_as_swept(study: Study) -> Study:
    """The same study, whose references to variants are spelled as the sweeps are."""
    names = {by_value(name): name for name in (*expand_recipes(study), *expand_merges(study))}

    def spelled(found: Any) -> Any:
        if isinstance(found, tuple):
            return tuple(spelled(item) for item in found)
        return names.get(by_value(found), found) if isinstance(found, str) else found

    def renamed(item: Any, fields: Iterable[str]) -> Any:
        return item.model_copy(update={key: spelled(getattr(item, key)) for key in fields})

    return study.model_copy(
        update={
            "recipes": {name: renamed(item, ["parent"]) for name, item in study.recipes.items()},
            "merges": {name: renamed(item, ["models"]) for name, item in study.merges.items()},
            "comparisons": tuple(
                renamed(item, Comparison.model_fields) for item in study.comparisons
            ),
            "connectivity": tuple(renamed(item, ["pair", "seeds"]) for item in study.connectivity),
            "reference": tuple(renamed(item, ["pair"]) for item in study.reference),
        }
    )


def merge_members(study: Study, merge: Merge) -> list[Variant | FinishedModel]:
    """The models of `merge`, in order. A recipe among them must have one variant."""
    members: list[Variant | FinishedModel] = []
    for name in merge.models:
        if name in study.models:
            members.append(study.models[name])
        else:
            (variant,) = variants_of(study, name)
            members.append(variant)
    return members


def merge_slots(study: Study, merge: Merge) -> list[Slot]:
    """The base models and seeds for which `merge` is made, in the order of the study.

    A recipe is trained on every base model with every seed of its own. A finished model has one
    base model, and one seed or none; without a seed it fits every seed. A merge of finished models
    alone is made once. `raylab.spec.validation` refuses a merge without any slot.
    """
    members = merge_members(study, merge)
    finished = [member for member in members if isinstance(member, FinishedModel)]
    bases = {member.base_model for member in finished}
    seeds = {member.seed for member in finished if member.seed is not None}
    trained = [member for member in members if isinstance(member, Variant)]
    shared = set.intersection(*(set(member.seeds) for member in trained)) if trained else ()
    own = [seed for seed in trained[0].seeds if seed in shared] if trained else []
    wanted: Sequence[Seeds | None] = own if trained else tuple(seeds) or (None,)
    return [
        (base, seed)
        for base in study.base_models
        for seed in wanted
        if bases <= {base} and seeds <= {seed}
    ]


def partner_data(study: Study) -> dict[str, set[str]]:
    """The data of all models of the merges that a variant of a recipe takes part in, by its name.

    Finished models may name data that the study does not have.
    """
    found: dict[str, set[str]] = {}
    for merge in study.merges.values():
        members = merge_members(study, merge)
        for member in members:
            if isinstance(member, Variant):
                found.setdefault(member.name, set()).update(other.data for other in members)
    return found


def finished_parents(study: Study) -> dict[str, tuple[str, ...]]:
    """The finished models that a merge takes, in the order of the study, each with its own data and
    that of all models of its merges."""
    found: dict[str, set[str]] = {}
    for merge in study.merges.values():
        data = {member.data for member in merge_members(study, merge)}
        for name in merge.models:
            if name in study.models:
                found.setdefault(name, set()).update(data)
    return {
        name: tuple(dict.fromkeys([model.data, *(d for d in study.data if d in found[name])]))
        for name, model in study.models.items()
        if name in found
    }


def result_names(study: Study) -> list[str]:
    """The names of all trials and merges of `study`, in the order of the plan."""
    trials = [
        trial_name(base, variant.name, seed)
        for base in study.base_models
        for variant in expand_recipes(study).values()
        for seed in variant.seeds
    ]
    merges = [
        merge_name(name, slot)
        for name, variant in expand_merges(study).items()
        for slot in merge_slots(study, variant.settings)
    ]
    return [*trials, *merges]


def merge_name(merge: str, slot: Slot) -> str:
    """The name of the merge at `slot`, in the form of a trial's name."""
    base, seed = slot
    return f"{base}.{merge}" if seed is None else trial_name(base, merge, seed)
