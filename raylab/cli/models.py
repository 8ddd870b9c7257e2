"""The verbs that take models instead of a study: diff and merge.

Model and invariant: as in `raylab.cli`. None of them needs Ray.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from raylab.cli.options import As, Energy, Json, Lang, Language, Rank, Set, Tokenizer, console, say
from raylab.errors import InputError
from raylab.imports import loading
from raylab.spec.merge_parameters import parsed_parameters
from raylab.spec.merges import check_method
from raylab.spec.output_tokenizer import asked_tokenizer
from raylab.spec.study import DENSITIES, TOLERANCE, Device, ViewName, check_densities
from raylab.spec.vocabularies import describe_clashes, places_of
from raylab.store.filesystem import Store

if TYPE_CHECKING:
    from raylab.reduce.diff import Diff
    from raylab.spec.merges import MergeRequest
    from raylab.store.references import FoundModel

_MODEL = "A checkpoint or adapter directory, a downloaded Hugging Face id, or OUT#trial."
_Universe = Literal["compared", "model"]
_Missing = Literal["error", "skip"]
_Mismatch = Literal["error", "crop", "skip"]
_Device = Annotated[
    Device,
    typer.Option(help="Where to compute; auto: on a GPU, if there is one and the work is large."),
]
_Dequantize = Annotated[
    bool,
    typer.Option(
        "--dequantize",
        help="Take copies in full precision of quantised checkpoints, made in scratch space.",
    ),
]
_Threads = Annotated[int | None, typer.Option(min=1, help="Threads.", show_default="all cores")]


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=_MODEL)],
    b: Annotated[str, typer.Argument(metavar="B", help=_MODEL)],
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
    device: _Device = "auto",
    threads: _Threads = None,
    dequantize: _Dequantize = False,
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


def merge(
    out: Annotated[Path, typer.Option(help="A new directory for the merged model.")],
    method: Annotated[
        str | None,
        typer.Argument(
            metavar="METHOD",
            help="A method of docs/merging.md: ties, linear, slerp and others.",
            # A wrong method is said before an option that is missing.
            is_eager=True,
            callback=lambda method: method and check_method(method),
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base model; methods of values need none.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help=_MODEL[:-1] + ", or BASE+ADAPTER. Repeatable.")
    ] = None,
    weight: Annotated[
        list[float] | None, typer.Option(help="One for each model, in order.", show_default="1")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="The share of entries kept.", show_default="0.2")
    ] = None,
    scope: Annotated[
        str | None, typer.Option(help="Trim over the whole model (global) or per tensor.")
    ] = None,
    scaling: Annotated[
        float | None,
        typer.Option("--lambda", help="Scales the merged task vector.", show_default="1"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of what DARE drops.", show_default="0")] = None,
    parameters: Set = None,
    config: Annotated[
        Path | None, typer.Option(help="A mergekit YAML, instead of METHOD and models.")
    ] = None,
    form: As = None,
    rank: Rank = None,
    energy: Energy = None,
    max_shard_gb: Annotated[
        float | None,
        typer.Option(min=0.001, help="The most GB of tensors in one file.", show_default="4"),
    ] = None,
    threads: _Threads = None,
    device: _Device = "auto",
    dequantize: _Dequantize = False,
    lang: Lang = Language.en,
    tokenizer: Tokenizer = None,
) -> None:
    """Merge models into one checkpoint, or adapters into one: TIES, DARE, SLERP and others."""
    from raylab.spec.adapter_output import adapter_output
    from raylab.spec.mergekit import requested

    output = adapter_output(form, rank, energy)
    if output and max_shard_gb is not None:
        raise InputError(
            "an adapter is written in one file",
            found=f"--max-shard-gb {max_shard_gb:g} beside --as adapter",
            expected="one of them",
        )

    request = requested(
        config,
        method,
        model,
        base=base,
        weights=weight,
        density=density,
        scope=scope,
        scaling=scaling,
        seed=seed,
        parameters=parsed_parameters(parameters),
        tokenizer=asked_tokenizer(tokenizer),
    )
    request = replace(request, output=output)
    with loading():
        from raylab.merge.merge import merge_named
        from raylab.merge.record import summary_lines

    started = time.monotonic()
    most_bytes = round((max_shard_gb or 4.0) * 1e9)
    record = merge_named(
        request,
        out,
        most_bytes=most_bytes,
        threads=threads,
        device=device,
        dequantize=dequantize,
    )
    print("\n".join(summary_lines(record)))
    print(f"{time.monotonic() - started:.1f} s: {out}")
    say(f"page: {_write_merge_page(request, record, out, lang.value)}")


def _write_merge_page(
    request: MergeRequest, record: Mapping[str, Any], out: Path, language: str
) -> str:
    from raylab.report.page.merge_page import merge_page
    from raylab.report.page.render import write_page
    from raylab.report.words import translator

    page = merge_page(translator(language), out.resolve().name, request, record)
    return write_page(page, Store(str(out)), "merge")
