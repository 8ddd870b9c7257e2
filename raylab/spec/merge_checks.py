"""Checks of the merges of a study: methods, models, settings, sweeps.

Model: `merge_problems` yields a location in the study and a message for each mistake.
Invariant: a merge without problems can be planned at every value of its sweep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from raylab.errors import InputError
from raylab.spec.merge_methods import METHODS
from raylab.spec.merge_variants import (
    FIELDS,
    merge_slots,
    merge_variants_of,
    settings_at,
    swept_settings,
)
from raylab.spec.proposals import unknown
from raylab.spec.recipes import expand_recipes, variants_of
from raylab.spec.study import Merge, Study
from raylab.spec.study_tokenizer import wrong_names
from raylab.spec.sweeps import points_of_sweep
from raylab.spec.swept_names import no_distinct_values

Found = tuple[tuple[str | int, ...], str]
"""Where (path of keys) and what."""


def merge_problems(study: Study) -> Iterator[Found]:
    """Every mistake in the merges of `study`."""
    for name, merge in study.merges.items():
        problems = list(_problems(study, merge))
        for field, message in problems:
            yield ("merges", name, *field), message
        if name in study.recipes or name in study.models:
            yield ("merges", name), "a recipe or model has the same name; rename one"
        if not problems and not merge_slots(study, merge_variants_of(study, name)[0].settings):
            message = "its models are of different base models, or of seeds that never meet"
            yield ("merges", name, "models"), message


def _problems(study: Study, merge: Merge) -> Iterator[Found]:
    """(field, message) of each error of one merge."""
    if merge.method not in METHODS:
        yield ("method",), unknown("merge method", merge.method, METHODS)
        return
    for index, model in enumerate(merge.models):
        if message := _no_single_model(study, model):
            yield ("models", index), message
    yield from _wrong_tokenizer(study, merge)
    wrong = list(_wrong_sweeps(merge))
    yield from wrong
    points = points_of_sweep(merge.sweep) if not wrong else ()
    where = ("sweep", *merge.sweep) if len(merge.sweep) == 1 else ("sweep",) * bool(merge.sweep)
    for point in points:
        if message := _refused(merge, point):
            yield where, message
            return


def _wrong_tokenizer(study: Study, merge: Merge) -> Iterator[Found]:
    """Why the output cannot have the tokenizer that is asked for."""
    if merge.tokenizer is None:
        return
    for where, message in wrong_names(merge.tokenizer, merge.models, [*study.models]):
        yield ("tokenizer", *where), message
    if getattr(merge, "as") == "adapter":
        message = "an adapter has the tokenizer of its base model; a whole model has one of its own"
        yield ("tokenizer",), message


def _wrong_sweeps(merge: Merge) -> Iterator[Found]:
    """The mistakes of sweeps that no single value makes."""
    known = swept_settings(merge.method)
    given = {key: getattr(merge, FIELDS[key], None) for key in FIELDS} | merge.parameters
    for key, values in merge.sweep.items():
        where = ("sweep", key)
        if key not in known:
            yield where, unknown("setting of a merge", key, known)
        elif given.get(key) is not None:
            yield where, f"the merge has {FIELDS.get(key, key)} beside the sweep; give one of them"
        elif key == "weight" and len(merge.models) < 2:
            yield where, "the models beside the first share what is left of 1; there are none"
        elif message := no_distinct_values(values):
            yield where, message


def _refused(merge: Merge, point: Mapping[str, Any]) -> str:
    """Why a merge at one point of its sweep cannot be made; empty if it can."""
    try:
        settings_at(merge, point).request(merge.models, "the base model")
    except ValidationError as error:
        found = error.errors()[0]
        return f"{found['msg']} (found {found['input']!r})"
    except InputError as error:
        return error.message.replace("\n  ", "; ")
    return ""


def _no_single_model(study: Study, name: str) -> str:
    """Why `name` is not exactly one model that a merge can take; empty if it is one."""
    variants = [variant.name for variant in variants_of(study, name)]
    if name in study.models or len(variants) == 1:
        return ""
    if variants:
        return f"{name!r} is several trainings; name one: {', '.join(variants)}"
    return unknown("recipe or model", name, sorted({*expand_recipes(study), *study.models}))
