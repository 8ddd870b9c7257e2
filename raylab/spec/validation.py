"""Checks across the fields of a study: names exist, parents form no cycle, sweeps are valid.

Model: each check is a function of the study that yields problems, listed in CHECKS; a problem
is a location in the study and a message. All problems of a study come out at once.
Invariant: a study without problems can be planned: every name in it leads somewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from raylab.spec.merge_checks import merge_problems
from raylab.spec.merge_variants import expand_merges, merge_name, merge_slots
from raylab.spec.proposals import unknown
from raylab.spec.recipes import (
    expand_recipes,
    resolve_parameters,
    swept_fields,
    trial_name,
    variants_of,
)
from raylab.spec.scoring.styles import STYLES
from raylab.spec.seeds import Seeds
from raylab.spec.study import Comparison, Connectivity, Study
from raylab.spec.swept_names import by_value, no_distinct_values


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a study: where (path of keys) and what."""

    location: tuple[str | int, ...]
    message: str


def check_references(study: Study) -> list[Problem]:
    """Every problem of `study`, in the order of CHECKS; an empty list for a sound study."""
    problems: list[Problem] = []
    for check in CHECKS:
        problems += check(study)
        if problems:
            break
    return problems


def _data_names(study: Study) -> Iterator[Problem]:
    for name, data in study.data.items():
        for part in data.concat or ():
            if part not in study.data or study.data[part].concat:
                simple = [key for key, item in study.data.items() if not item.concat]
                yield Problem(("data", name, "concat"), unknown("plain data set", part, simple))
    for name, recipe in study.recipes.items():
        for part, data_name in recipe.data_sets.items():
            if data_name not in study.data:
                yield Problem(("recipes", name, part), unknown("data set", data_name, study.data))


def _models(study: Study) -> Iterator[Problem]:
    if not study.recipes and not study.models:
        yield Problem(("recipes",), "a study needs `recipes` to train or `models` to compare")
    for name, model in study.models.items():
        if model.base_model not in study.base_models:
            message = unknown("base model", model.base_model, study.base_models)
            yield Problem(("models", name, "base_model"), message)
        if name in study.recipes:
            yield Problem(("models", name), "a recipe has the same name; rename one of them")


def _sweeps(study: Study) -> Iterator[Problem]:
    known = swept_fields()
    for name, key, values in _swept(study):
        where = ("recipes", name, "sweep", key)
        if key not in known:
            yield Problem(where, unknown("training parameter", key, known))
        elif message := no_distinct_values(values):
            yield Problem(where, message)


def _swept(study: Study) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """(recipe, parameter, values) of every sweep."""
    for name, recipe in study.recipes.items():
        yield from ((name, key, values) for key, values in recipe.sweep.items())


def _parents(study: Study) -> Iterator[Problem]:
    for name, recipe in study.recipes.items():
        if recipe.parent is None:
            continue
        stem = _stem(study, recipe.parent)
        if stem is None:
            yield Problem(
                ("recipes", name, "parent"), unknown("recipe", recipe.parent, study.recipes)
            )
    if cycle := _cycle(study):
        yield Problem(
            ("recipes", cycle[0], "parent"), f"the parents form a cycle: {' <- '.join(cycle)}"
        )


def _stem(study: Study, name: str) -> str | None:
    """The recipe of the file that `name` (a recipe, or one variant of a swept one) comes from."""
    if name in study.recipes:
        return name
    swept = [stem for stem in study.recipes if name.startswith(f"{stem}.")]
    return max(swept, key=len, default=None)


def _cycle(study: Study) -> list[str] | None:
    for start in study.recipes:
        seen = [start]
        while (parent := study.recipes[seen[-1]].parent) and (stem := _stem(study, parent)):
            if stem in seen:
                return [*seen[seen.index(stem) :], stem]
            seen.append(stem)
    return None


def _learned(study: Study) -> Iterator[Problem]:
    """DPO compares last answers; it learns no other."""
    for name, recipe in study.recipes.items():
        asked = {variant.training.learn for variant in variants_of(study, name)}
        if recipe.method == "dpo" and asked != {"last"}:
            yield Problem(
                ("recipes", name),
                "DPO compares the last answers of conversations: `learn: all` is for SFT alone; "
                "give `learn` under `training` of the SFT recipes, or `learn: last` here",
            )


def _values(study: Study) -> Iterator[Problem]:
    """Each swept value must be valid for its parameter."""
    points = [(name, key, value) for name, key, values in _swept(study) for value in values]
    for name, key, value in points:
        try:
            resolve_parameters(study, study.recipes[name], {key: value})
        except ValidationError as error:
            message = f"{error.errors()[0]['msg']} (found {value!r})"
            yield Problem(("recipes", name, "sweep", key), message)


def _names(study: Study) -> Iterator[Problem]:
    """Each object that a comparison or a folder names must have a unique name."""
    taken = dict.fromkeys(study.base_models, "a base model")
    variants = [variant for name in study.recipes for variant in variants_of(study, name)]
    pairs = [(variant.name, seed) for variant in variants for seed in variant.seeds]
    for base, (variant, seed) in itertools.product(study.base_models, pairs):
        name = trial_name(base, variant, seed)
        if name in taken:
            yield Problem(("recipes",), f"{taken[name]} and a trial are both named {name}")
        taken[name] = "a trial"
    for name in study.models:
        if name in taken:
            yield Problem(("models", name), f"{taken[name]} has the same name")
        taken[name] = "a finished model"
    merges = expand_merges(study)
    made = [(item.merge, merge_name(name, slot)) for name, item in merges.items()
            for slot in merge_slots(study, item.settings)]  # fmt: skip
    for merge, name in [*((merge, merge) for merge in study.merges), *made]:
        if name in taken:
            yield Problem(("merges", merge), f"{taken[name]} is called {name}")
        taken[name] = "another merge"


def _variants(study: Study) -> Iterator[Problem]:
    """A parent may be one variant of a swept recipe; the variant must exist."""
    for name, recipe in study.recipes.items():
        if recipe.parent and not variants_of(study, recipe.parent):
            stem = _stem(study, recipe.parent) or recipe.parent
            known = [variant.name for variant in variants_of(study, stem)]
            yield Problem(("recipes", name, "parent"), unknown("recipe", recipe.parent, known))


def _merges(study: Study) -> Iterator[Problem]:
    for location, message in merge_problems(study):
        yield Problem(location, message)


def _comparisons(study: Study) -> Iterator[Problem]:
    merges = {*study.merges, *expand_merges(study)}
    known = {*study.recipes, *expand_recipes(study), *study.models, *merges}
    asked: dict[str, Sequence[Comparison | Connectivity]] = {
        "comparisons": study.comparisons,
        "connectivity": study.connectivity,
    }
    places = [
        (key, index, item) for key, items in asked.items() for index, item in enumerate(items)
    ]
    for key, index, item in places:
        for field, name in _named(item):
            if by_value(name) not in map(by_value, known):
                message = unknown("recipe, merge or model", name, sorted(known))
                yield Problem((key, index, field), message)


def _named(item: Comparison | Connectivity) -> Iterator[tuple[str, str]]:
    """(field, name) of every recipe or model that a comparison or a line names."""
    for field in type(item).model_fields:
        value = getattr(item, field)
        if isinstance(value, tuple):
            yield from ((field, name) for name in value)


def _style(study: Study) -> Iterator[Problem]:
    style = study.evaluation.style
    if isinstance(style, str) and style not in STYLES:
        yield Problem(("evaluation", "style"), unknown("style", style, STYLES))


def _seeds(study: Study) -> Iterator[Problem]:
    """A training starts from its parent at the same seeds."""
    for name, recipe in study.recipes.items():
        if recipe.parent is None or not (parents := variants_of(study, recipe.parent)):
            continue
        own, theirs = (
            study.seeds if seeds is None else seeds
            for seeds in (recipe.seeds, study.recipes[parents[0].recipe].seeds)
        )
        if missing := [seed for seed in own if seed not in theirs]:
            at = ("recipes", name, "parent" if recipe.seeds is None else "seeds")
            yield Problem(at, f"its parent {recipe.parent} is not trained with {_listed(missing)}, "
                              f"but with {_listed(theirs)}: give it the same `seeds`")  # fmt: skip


def _listed(seeds: Iterable[Seeds]) -> str:
    return ", ".join(map(str, seeds)) or "none"


def _reference(study: Study) -> Iterator[Problem]:
    """Published norms belong to two trials of the study."""
    known = expand_recipes(study)
    for index, printed in enumerate(study.reference):
        at = ("reference", index)
        for name in printed.pair:
            if by_value(name) not in map(by_value, known):
                yield Problem((*at, "pair"), unknown("recipe", name, known))
        found = [variants_of(study, name) for name in printed.pair]
        both = [seed for variants in found for variant in variants[:1] for seed in variant.seeds]
        if both.count(printed.seed) < len(printed.pair) and all(found):
            seeds = _listed(seed for seed in dict.fromkeys(both) if both.count(seed) > 1)
            message = f"{printed.seed} is none of the study's seeds of this pair: {seeds}"
            yield Problem((*at, "seed"), message)
        base = printed.base_model
        if base is None and len(study.base_models) > 1:
            yield Problem(at, "the study has several base models; name one with `base_model`")
        if base is not None and base not in study.base_models:
            yield Problem((*at, "base_model"), unknown("base model", base, study.base_models))


CHECKS: tuple[Callable[[Study], Iterator[Problem]], ...] = (
    _style,
    _data_names,
    _models,
    _sweeps,
    _parents,
    _values,
    _variants,
    _seeds,
    _learned,
    _merges,
    _names,
    _comparisons,
    _reference,
)
