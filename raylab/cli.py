"""The command line: parse, call, print.

Model: every verb is a function that calls a stage and prints what came out; results go to
standard output, everything said along the way to standard error.
Invariant: exit status 0, 1 or 2 as `raylab.errors` says; an error is one message, without a
traceback unless `--debug`. `plan`, `status` and `schema` load neither torch nor Ray.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from raylab.errors import InputError, RaylabError
from raylab.plan.cache import evaluation_id, plan_states
from raylab.plan.memory import disk_lines
from raylab.plan.merges import Planned, plan_merges
from raylab.plan.status import live_rows
from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.loading import load_study
from raylab.spec.study import DENSITIES, Study, checked_densities
from raylab.store.paths import Store
from raylab.store.records import read_records
from raylab.store.tables import read_table, rows_of

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train a study of LLM fine-tunes on Ray, and measure exactly what moved.",
)

_INTERRUPTED = 130

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study, a YAML file.")]
Out = Annotated[
    str | None, typer.Option(help="A directory or URI for results [default: runs/<name>].")
]
Address = Annotated[
    str | None, typer.Option(help="The address of a Ray cluster; none: one of its own.")
]
_MODEL = "A checkpoint or adapter directory, a downloaded Hugging Face id, or OUT#trial."
_View = Literal["delta", "merged", "dequantized"]
_Universe = Literal["compared", "model"]
_Missing = Literal["error", "skip"]
_Mismatch = Literal["error", "crop", "skip"]
_Threads = Annotated[int | None, typer.Option(min=1, help="Threads [default: all cores].")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _out(study: Study, out: str | None) -> str:
    return out or f"runs/{study.name}"


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _console() -> Console:
    wide = sys.stdout.isatty()
    return Console(width=None if wide else 120)


@app.command()
def plan(study: StudyFile, out: Out = None, as_json: Json = False) -> None:
    """Show every trial and merge: cached, to run or blocked, and which field made it new."""
    loaded = load_study(study)
    inputs = read_inputs(loaded)
    trials = plan_trials(loaded, inputs)
    merges = plan_merges(loaded, inputs, trials)
    records, _ = read_records(Store(_out(loaded, out)))
    states = plan_states([*trials, *merges], records, evaluation_id(loaded))
    if as_json:
        rows = [
            {"name": s.trial.name, "trial_id": s.trial.id, "state": s.state, "why": s.why}
            for s in states
        ]
        print(json.dumps({"trials": rows}, ensure_ascii=False, indent=1))
        return
    table = Table("trial", "id", "state", "why", box=None, pad_edge=False)
    for item in states:
        mark = " (provisional)" if item.trial.provisional else ""
        table.add_row(item.trial.name, item.trial.id + mark, item.state, item.why)
    _console().print(table)
    for line in disk_lines(loaded, inputs, [*trials, *merges]):
        print(line)


@app.command()
def run(study: StudyFile, out: Out = None, address: Address = None) -> None:
    """Train, reduce and report; run again: what is done stays as it is."""
    from raylab.cluster import stages

    loaded = load_study(study)
    prepared = stages.prepare(loaded, _out(loaded, out))
    complete = stages.run(prepared, address, _say)
    _print_trials(prepared.store)
    _print_norms(prepared.store)
    print(f"report: {prepared.store.path('report/report.html')}")
    _exit(complete)


@app.command()
def train(study: StudyFile, out: Out = None, address: Address = None) -> None:
    """Train the trials and make the merges that are not in the store."""
    from raylab.cluster import stages

    loaded = load_study(study)
    prepared = stages.prepare(loaded, _out(loaded, out))
    complete = stages.train(prepared, address, _say)
    _print_trials(prepared.store)
    _exit(complete)


@app.command()
def reduce(study: StudyFile, out: Out = None, address: Address = None) -> None:
    """Reduce every comparison whose two sides are in the store."""
    from raylab.cluster import stages

    loaded = load_study(study)
    prepared = stages.prepare(loaded, _out(loaded, out))
    stages.reduce(prepared, address, _say)
    _print_norms(prepared.store)


@app.command()
def report(study: StudyFile, out: Out = None) -> None:
    """Write the report out of the tables in the store."""
    from raylab.report.render import build_report

    loaded = load_study(study)
    print(f"report: {build_report(loaded, Store(_out(loaded, out)))}")


@app.command()
def status(
    study: StudyFile,
    out: Out = None,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again and again until the study has ended.")
    ] = False,
) -> None:
    """Show what became of every trial and merge, also while a study runs."""
    from raylab.report import screen
    from raylab.report.terminal import print_status

    if watch and as_json:
        raise InputError("--watch and --json exclude each other", todo="give one of them")
    loaded = load_study(study)
    inputs = read_inputs(loaded)
    trials = plan_trials(loaded, inputs)
    planned: list[Planned] = [*trials, *plan_merges(loaded, inputs, trials)]
    store = Store(_out(loaded, out))
    if watch:
        screen.watch(lambda: live_rows(planned, store), screen.outlet(sys.stdout, timed=False))
    rows = live_rows(planned, store)
    if as_json:
        print(json.dumps({"trials": rows}, ensure_ascii=False, indent=1))
    else:
        print_status(rows, _console())


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=_MODEL)],
    b: Annotated[str, typer.Argument(metavar="B", help=_MODEL)],
    base: Annotated[
        str | None, typer.Option(help="The base model: relate the two task vectors as well.")
    ] = None,
    density: Annotated[
        list[float] | None,
        typer.Option(
            help="Keep this share of the largest entries; repeatable [default: 0.1 0.2 0.5 1]."
        ),
    ] = None,
    view: Annotated[_View, typer.Option(help="What a difference means.")] = "delta",
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
    threads: _Threads = None,
    out: Annotated[
        str | None, typer.Option(help="A directory or URI for the tables and diff.json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Subtract two models: exact norms, thresholds and layers. Needs no Ray."""
    from raylab.reduce.accounting import Tolerance
    from raylab.reduce.diff import DiffRequest, diff, view_of, write_diff
    from raylab.report.terminal import print_diff
    from raylab.store.references import find_base, find_model

    left, right = find_model(a), find_model(b)
    request = DiffRequest(
        left,
        right,
        base=find_base(base) if base else None,
        densities=checked_densities(density or DENSITIES),
        view=view_of(view, left, right),
        universe=universe,
        tolerance=Tolerance(missing, mismatch, non_finite),
        threads=threads or len(os.sched_getaffinity(0)),
        curve=out is not None,
    )
    found = diff(request)
    if out:
        write_diff(found, Store(out))
    if as_json:
        print(json.dumps(found.document, ensure_ascii=False, indent=1))
    else:
        print_diff(found.document, _console())


@app.command()
def merge(
    out: Annotated[Path, typer.Option(help="A new directory for the merged checkpoint.")],
    method: Annotated[
        str | None,
        typer.Argument(
            metavar="METHOD", help="ties, task_arithmetic, dare_ties, dare_linear or linear."
        ),
    ] = None,
    base: Annotated[str | None, typer.Option(help="The base model; `linear` needs none.")] = None,
    model: Annotated[list[str] | None, typer.Option(help=_MODEL + " Repeatable.")] = None,
    weight: Annotated[
        list[float] | None, typer.Option(help="One for each model, in order; otherwise 1.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="The share of entries kept, otherwise 0.2.")
    ] = None,
    scope: Annotated[
        str | None, typer.Option(help="Trim over the whole model (global) or per tensor.")
    ] = None,
    scaling: Annotated[
        float | None, typer.Option("--lambda", help="Scales the merged task vector, otherwise 1.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of what DARE drops, otherwise 0.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A mergekit YAML, instead of METHOD and models.")
    ] = None,
    max_shard_gb: Annotated[
        float, typer.Option(min=0.001, help="The most GB of tensors in one file.")
    ] = 4.0,
    threads: _Threads = None,
) -> None:
    """Merge models into one checkpoint: TIES, task arithmetic, DARE, or a weighted mean."""
    from raylab.spec.mergekit import requested

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
    )
    from raylab.reduce.merge import merge_named
    from raylab.reduce.merge_card import summary_lines

    started = time.monotonic()
    record = merge_named(request, out, most_bytes=round(max_shard_gb * 1e9), threads=threads)
    print("\n".join(summary_lines(record)))
    print(f"{time.monotonic() - started:.1f} s: {out}")


@app.command()
def schema() -> None:
    """Print the JSON schema of a study file, for editors that complete it."""
    print(json.dumps(Study.model_json_schema(), ensure_ascii=False, indent=1))


def _print_trials(store: Store) -> None:
    from raylab.report.terminal import print_trials

    print_trials(rows_of(read_table(store, "trials")), _console())


def _print_norms(store: Store) -> None:
    from raylab.report.terminal import print_norms

    print_norms(rows_of(read_table(store, "norms")), _console())


def _exit(complete: bool) -> None:
    if not complete:
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> Any:
    """The `raylab` command. `--debug` anywhere shows tracebacks."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    try:
        app([word for word in words if word != "--debug"])
    except RaylabError as error:
        if debug:
            raise
        print(f"raylab: {error.message}", file=sys.stderr)
        sys.exit(error.exit_status)
    except SystemExit as end:
        # typer ends an interrupted command with the shell's 130.
        if end.code != _INTERRUPTED:
            raise
        _say("raylab: interrupted; the same command goes on from here")
        sys.exit(1)
