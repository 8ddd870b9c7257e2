"""The models of a study that cannot be reduced, each with the cause.

Model: a model is opened as a reduction opens it, over its base model and in every view, and its
tensors are compared with the base model's. Only headers are read.
Invariant: one model that cannot be read keeps no other from being reduced; its comparisons are
rows with the status `failed` and this cause, which stands in the trials table as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from raylab.cluster.study_context import StudyContext
from raylab.errors import RaylabError
from raylab.plan.comparisons import PlannedComparison
from raylab.spec.study import Study
from raylab.store.filesystem import TABLES, Store
from raylab.store.references import ModelLocation
from raylab.store.tables import read_rows, write_table
from raylab.weights import Checkpoint, Shape
from raylab.weights.views import View, ViewedModel

Places = Mapping[str, ModelLocation | None]


def view_of_study(study: Study, name: Any) -> View:
    """The view `name`, with the quantisation of the study where it needs one."""
    return View(name, study.quantization if name == "dequantized" else None)


def finished_and_unreadable(context: StudyContext) -> dict[str, str]:
    """Why finished models of the study (`models:`) on this machine cannot be reduced, by name."""
    there = [name for name in context.study.models if context.inputs.models[name].directory]
    places = {name: context.finished_place(context.models[name]) for name in there}
    return unreadable(context, places, there)


def unreadable(context: StudyContext, places: Places, names: Iterable[str]) -> dict[str, str]:
    """Why each model of `names` cannot be reduced, by its name; most are not among them."""
    found: dict[str, str] = {}
    of_bases: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        of_bases.setdefault(context.models[name].base_model, []).append(name)
    for base, models in of_bases.items():
        directory = context.base_directory(base)
        try:
            weights = Checkpoint(directory) if directory else None
        except RaylabError as error:
            found |= dict.fromkeys(models, _in_one_line(error))
            continue
        known: dict[str, Shape] = {}
        for name in models:
            place = places[name]
            problem = place and next(_problems(context.study, place, weights, known), None)
            if problem:
                found[name] = problem
    return found


def _problems(
    study: Study, place: ModelLocation, base: Checkpoint | None, known: dict[str, Shape]
) -> Iterator[str]:
    """`known`: the shapes of the models before, which stand in for a base model that is not
    there."""
    model = None
    for name in study.views:
        try:
            model = ViewedModel(place, view_of_study(study, name), base)
        except RaylabError as error:
            yield _in_one_line(error)
            return
    for tensor, shape in model.shapes.items() if model else ():
        stored = base.stored_name(tensor) if base else tensor
        wanted = known.setdefault(tensor, shape) if base is None else base.shapes.get(stored or "")
        if wanted != shape:
            yield f"{tensor} {shape}, {wanted or 'not'} in the base model"


def _in_one_line(error: RaylabError) -> str:
    return error.message.replace("\n  ", "; ")


def tell_in_trials(store: Store, causes: Mapping[str, str]) -> None:
    """Write the causes into the column `message` of the trials table, if that is there."""
    key = f"{TABLES}/trials.parquet"
    if not causes or not store.exists(key):
        return
    rows = read_rows(store, key)
    for row in rows:
        if row["status"] == "done" and row["name"] in causes:
            row["message"] = f"cannot be reduced: {causes[row['name']]}"
    write_table(store, "trials", rows)


def failed(
    rows: Sequence[Mapping[str, Any]],
    comparisons: Sequence[PlannedComparison],
    causes: Mapping[str, str],
) -> list[dict[str, Any]]:
    """`rows` of the comparisons table, with those that have a side in `causes` as failed."""
    made = []
    for row, item in zip(rows, comparisons, strict=True):
        reasons = [
            f"{side.name} cannot be reduced: {causes[side.name]}"
            for side in (item.a, item.b)
            if side.name in causes
        ]
        is_failed = bool(reasons) and row["status"] == "done"
        outcome = {"status": "failed", "message": "; ".join(dict.fromkeys(reasons))}
        made.append({**row, **(outcome if is_failed else {})})
    return made
