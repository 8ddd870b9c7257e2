"""Recipes as they will be trained, and merges as they will be made.

Model: overrides are applied, sweeps multiplied out and parents resolved. A recipe of the study
file with a sweep becomes one variant for every combination of its values, named
`<recipe>.<parameter>=<value>`, the value as the file writes it; a recipe whose parent is swept
becomes one variant for every variant of the parent, named `<recipe>.parent.<parameter>=<value>`.
Invariant: the order of variants follows the study file alone, parents before children; every
variant holds complete parameters, so nothing downstream looks back at the study's defaults.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.spec.seeds import Seeds
from raylab.spec.study import (
    Chain,
    Comparison,
    FinishedModel,
    Lora,
    Merge,
    Method,
    Recipe,
    Study,
    Training,
)
from raylab.spec.swept_names import by_value, written

_LORA = "lora."

Slot = tuple[str, Seeds | None]
"""A base model and a seed; None where a merge of finished models has no seed."""


@dataclass(frozen=True)
class Variant:
    """One recipe with a value for every parameter."""

    name: str
    recipe: str
    method: Method
    data_sets: Mapping[str, str]
    parent: str | None
    chain: Chain
    training: Training
    lora: Lora
    point: Mapping[str, Any]
    label: str
    seeds: tuple[Seeds, ...] = ()

    @property
    def data(self) -> str:
        """The data set of the answers that are learned or preferred."""
        return self.data_sets.get("data") or self.data_sets["chosen"]


def swept_fields() -> tuple[str, ...]:
    """The keys that a sweep may use."""
    return (*Training.model_fields, *(_LORA + key for key in Lora.model_fields))


def resolve_parameters(
    study: Study, recipe: Recipe, point: Mapping[str, Any]
) -> tuple[Training, Lora]:
    """The study's defaults, then the recipe's overrides, then the values of a sweep's `point`.

    Raises pydantic.ValidationError where a value is out of bounds.
    """
    training = {**study.training.model_dump(), **recipe.training.model_dump(exclude_none=True)}
    lora = {**study.lora.model_dump(), **recipe.lora.model_dump(exclude_none=True)}
    for key, value in point.items():
        target = lora if key.startswith(_LORA) else training
        target[key.removeprefix(_LORA)] = value
    return Training.model_validate(training), Lora.model_validate(lora)


def expand_recipes(study: Study) -> dict[str, Variant]:
    """All variants of all recipes of `study` by name, parents first."""
    variants: dict[str, Variant] = {}
    for name in study.recipes:
        for variant in _with_ancestors(study, name):
            variants.setdefault(variant.name, variant)
    return variants


def variants_of(study: Study, name: str) -> list[Variant]:
    """The variants with the name `name`: all variants of a recipe, or one variant.

    A value in `name` may be spelled in any way.
    """
    if name in study.recipes:
        return list(_expand(study, name))
    stems = [stem for stem in study.recipes if name.startswith(f"{stem}.")]
    wanted = by_value(name)
    found = (variant for stem in stems for variant in _expand(study, stem))
    return [variant for variant in found if by_value(variant.name) == wanted]


def with_names_as_swept(study: Study) -> Study:
    """The same study, whose references to variants are spelled as the sweeps are."""
    names = {by_value(name): name for name in expand_recipes(study)}

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


def trial_name(base_model: str, variant: str, seed: Seeds | int) -> str:
    """The name of a trial; scripts may rely on its form."""
    return f"{base_model}.{variant}.s{seed}"


def _with_ancestors(study: Study, name: str) -> Iterator[Variant]:
    for variant in variants_of(study, name):
        if variant.parent:
            yield from _with_ancestors(study, variant.parent)
        yield variant


def _expand(study: Study, name: str) -> Iterator[Variant]:
    recipe = study.recipes[name]
    parents = variants_of(study, recipe.parent) if recipe.parent else [None]
    for parent in parents:
        for values in itertools.product(*recipe.sweep.values()):
            yield _variant(study, name, parent, dict(zip(recipe.sweep, values, strict=True)))


def _variant(study: Study, name: str, parent: Variant | None, point: Mapping[str, Any]) -> Variant:
    recipe = study.recipes[name]
    training, lora = resolve_parameters(study, recipe, point)
    inherited: dict[str, Any] = {}
    if parent and recipe.parent == parent.recipe:
        inherited = {f"parent.{key}": value for key, value in parent.point.items()}
    whole_point = {**inherited, **point}
    return Variant(
        name=".".join([name, *(f"{key}={written(value)}" for key, value in whole_point.items())]),
        recipe=name,
        method=recipe.method,
        data_sets=recipe.data_sets,
        parent=parent.name if parent else None,
        chain=recipe.chain,
        training=training,
        lora=lora,
        point=whole_point,
        label=_label(recipe, parent),
        seeds=study.seeds if recipe.seeds is None else recipe.seeds,
    )


def _label(recipe: Recipe, parent: Variant | None) -> str:
    """How papers write it: SFT(D0), or DPO(D1)(SFT D2) for DPO on D1 after SFT on D2."""
    own = f"{recipe.method.upper()}({recipe.data_sets.get('data') or recipe.chosen})"
    return f"{own}({parent.method.upper()} {parent.data})" if parent else own


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
        for name, merge in study.merges.items()
        for slot in merge_slots(study, merge)
    ]
    return [*trials, *merges]


def merge_name(merge: str, slot: Slot) -> str:
    """The name of the merge at `slot`, in the form of a trial's name."""
    base, seed = slot
    return f"{base}.{merge}" if seed is None else trial_name(base, merge, seed)
