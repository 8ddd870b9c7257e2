"""The verb diff: two models subtracted, without a study.

Model and invariant: as in `raylab.cli`. Ray is not needed.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from raylab.cli.model_options import MODEL, ComputeDevice, Dequantize, Threads
from raylab.cli.options import Json, Lang, Language, console, say
from raylab.imports import loading
from raylab.spec.study import DENSITIES, TOLERANCE, ViewName, check_densities
from raylab.spec.vocabularies import describe_clashes, places_of
from raylab.store.filesystem import Store

if TYPE_CHECKING:
    from raylab.reduce.diff import Diff
    from raylab.store.references import FoundModel

_Universe = Literal["compared", "model"]
_Missing = Literal["error", "skip"]
_Mismatch = Literal["error", "crop", "skip"]


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=MODEL)],
    b: Annotated[str, typer.Argument(metavar="B", help=MODEL)],
    base: Annotated[
        str | None, typer.Option(help="The base model: relate the two task vectors as well.")
    ] = None,
    density: Annotated[
        list[float] | None,
        typer.Option(
            help="Keep this share of the largest entries; repeatable.",
            show_default="0.1 0.2 0.5 1",
        ),
    ] = None,
    view: Annotated[ViewName, typer.Option(help="What a difference means.")] = "delta",
    universe: Annotated[
        _Universe, typer.Option(help="Count the entries compared, or all of the model.")
    ] = "compared",
    missing: Annotated[
        _Missing, typer.Option(help="What to do with tensors that one model lacks.")
    ] = "error",
    mismatch: Annotated[
        _Mismatch, typer.Option(help="What to do with tensors of two shapes.")
    ] = "error",
    non_finite: Annotated[
        _Missing, typer.Option(help="What to do with entries that are NaN or infinite.")
    ] = "error",
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="Entries of larger magnitude moved.")
    ] = TOLERANCE,
    device: ComputeDevice = "auto",
    threads: Threads = None,
    dequantize: Dequantize = False,
    out: Annotated[
        str | None,
        typer.Option(help="A directory or URI for the tables, diff.json and a page, diff.html."),
    ] = None,
    lang: Lang = Language.en,
    as_json: Json = False,
) -> None:
    """Subtract two models: exact norms, thresholds and layers. Needs no Ray."""
    with loading():
        from raylab.reduce.diff import DiffRequest, diff, view_of, write_diff
        from raylab.report.terminal.printing import print_diff
        from raylab.store.references import find_base, find_model
        from raylab.weights.alignment import Tolerance

    left, right = find_model(a), find_model(b)
    sides = [
        side
        for model in (left, right)
        for side in places_of(model.name, model.location.adapters, model.location.checkpoint)
    ]
    for warning in describe_clashes(sides):
        say(f"warning: {warning}")
    known_base = find_base(base) if base else None
    if dequantize:
        left, right, known_base = _in_full_precision(left, right, known_base)
    request = DiffRequest(
        left,
        right,
        base=known_base,
        densities=check_densities(density or DENSITIES),
        view=view_of(view, left, right),
        universe=universe,
        tolerance=Tolerance(missing, mismatch, non_finite),
        threads=threads or len(os.sched_getaffinity(0)),
        device=device,
        moved_above=tolerance,
        curve=out is not None,
    )
    found = diff(request)
    if not found.document["accounting"]["compared"]:
        say("warning: the two adapters change no tensor in common; what one lacks counts as 0")
    if out:
        write_diff(found, Store(out))
        say(f"page: {_write_difference_page(found, Store(out), lang.value)}")
    if as_json:
        print(json.dumps(found.document, ensure_ascii=False, indent=1))
    else:
        print_diff(found.document, console())


def _write_difference_page(found: Diff, store: Store, language: str) -> str:
    from raylab.report.page.difference_page import difference_page
    from raylab.report.page.render import write_page
    from raylab.report.words import translator

    page = difference_page(translator(language), found.document, found.rows)
    return write_page(page, store, "diff")


def _in_full_precision(
    left: FoundModel, right: FoundModel, base: Path | None
) -> tuple[FoundModel, FoundModel, Path | None]:
    """The same models, those that are quantised as copies in full precision."""
    from raylab.weights.dequantize import dequantized, in_full_precision

    left, right = (
        replace(model, location=in_full_precision(model.location)) for model in (left, right)
    )
    return left, right, dequantized(base) if base else None
