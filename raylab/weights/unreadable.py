"""Models over one base model that cannot be compared, each with the cause.

Model: a model is opened over its base model in every view of a study, and its tensors are compared
with the base model's.
Invariant: only headers are read. One model that cannot be read says nothing of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raylab.errors import RaylabError
from raylab.spec.study import Study
from raylab.store.references import ModelLocation
from raylab.weights import Checkpoint, Shape
from raylab.weights.views import View, ViewedModel


def view_of_study(study: Study, name: Any) -> View:
    """The view `name`, with the quantisation of the study where it needs one."""
    return View(name, study.quantization if name == "dequantized" else None)


def unreadable(
    study: Study, base: Path | None, places: Mapping[str, ModelLocation]
) -> dict[str, str]:
    """Why models of `places` cannot be compared, by name; most are not among them.

    base: the directory of their base model; None: it is not on this machine.
    """
    try:
        weights = Checkpoint(base) if base else None
    except RaylabError as error:
        return dict.fromkeys(places, _in_one_line(error))
    known: dict[str, Shape] = {}
    problems = {
        name: next(_problems(study, place, weights, known), None) for name, place in places.items()
    }
    return {name: problem for name, problem in problems.items() if problem}


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
