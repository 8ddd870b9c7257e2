"""Recipes as they will be trained.

Model: overrides are applied, sweeps multiplied out and parents resolved. A recipe of the study
file with a sweep becomes one variant for every combination of its values, named
`<recipe>.<parameter>=<value>`, the value as the file writes it; a recipe whose parent is swept
becomes one variant for every variant of the parent, named `<recipe>.parent.<parameter>=<value>`.
Invariant: the order of variants follows the study file alone, parents before children; every
variant holds complete parameters, so nothing downstream looks back at the study's defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from raylab.spec.seeds import Seeds
from raylab.spec.study import Chain, Lora, Method, Recipe, Study, Training
from raylab.spec.sweeps import name_at, points_of_sweep, variants_named

_LORA = "lora."


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
    return variants_named(name, study.recipes, partial(_expand, study))


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
        for point in points_of_sweep(recipe.sweep):
            yield _variant(study, name, parent, point)


def _variant(study: Study, name: str, parent: Variant | None, point: Mapping[str, Any]) -> Variant:
    recipe = study.recipes[name]
    training, lora = resolve_parameters(study, recipe, point)
    inherited: dict[str, Any] = {}
    if parent and recipe.parent == parent.recipe:
        inherited = {f"parent.{key}": value for key, value in parent.point.items()}
    whole_point = {**inherited, **point}
    return Variant(
        name=name_at(name, whole_point),
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
