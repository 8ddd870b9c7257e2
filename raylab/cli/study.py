"""The verbs that carry out a study: run, train and reduce.

Model: a verb reads the study, calls one stage and prints its result. Results go to standard
output, messages along the way to standard error. A run loads torch and Ray once it has found
something to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from raylab.cli.options import Address, Out, StudyFile, Verbose, console, out_of, say, warn
from raylab.imports import loading
from raylab.plan.comparisons import comparisons_without_pairs
from raylab.report.terminal.phase_lines import said_phases
from raylab.spec.study_file import load_study
from raylab.store.filesystem import Store
from raylab.store.phase import LOADING
from raylab.store.tables import read_table, read_tables, rows_of


def run(
    study: StudyFile, out: Out = None, address: Address = None, verbose: Verbose = False
) -> None:
    """Train, reduce and report; run again: what is done stays as it is."""
    from raylab.cluster import whole_study
    from raylab.report.study_tables import Tables
    from raylab.report.terminal.verdict_table import print_found

    context = _prepared(study, out)
    warn([*context.inputs.warnings, *comparisons_without_pairs(context.study, context.planned)])
    complete = whole_study.run(context, address, say)
    _print_trials(context.store)
    _print_comparisons(context.store, verbose=verbose)
    tables = Tables.of_study(context.study, read_tables(context.store))
    console().line()
    print_found(tables, console())
    print(f"report: {context.store.address('report/report.html')}")
    if not complete:
        raise typer.Exit(1)


def train(study: StudyFile, out: Out = None, address: Address = None) -> None:
    """Train the trials and make the merges that are not in the store."""
    stages, context = _stages(), _prepared(study, out)
    warn(context.inputs.warnings)
    complete = stages.train(context, address, say)
    _print_trials(context.store)
    if not complete:
        raise typer.Exit(1)


def reduce(
    study: StudyFile, out: Out = None, address: Address = None, verbose: Verbose = False
) -> None:
    """Reduce every comparison whose two sides are in the store."""
    stages, context = _stages(), _prepared(study, out)
    complete = stages.reduce(context, address, say)
    _print_comparisons(context.store, verbose=verbose)
    if not complete:
        raise typer.Exit(1)


def _prepared(file: Path, out: str | None) -> Any:
    """The StudyContext of the study with everything that it names."""
    from raylab.cluster.study_context import prepare

    with said_phases(say, LOADING) as tell:
        loaded = load_study(file)
        return prepare(loaded, out_of(loaded, out), tell=tell)


def _stages() -> Any:
    """The stages, which load torch and Ray."""
    with said_phases(say, LOADING), loading():
        from raylab.cluster import stages
    return stages


def _print_trials(store: Store) -> None:
    from raylab.report.terminal.printing import print_trials

    print_trials(rows_of(read_table(store, "trials")), console())


def _print_comparisons(store: Store, *, verbose: bool) -> None:
    """The norms of all comparisons where `verbose`, else their number."""
    from raylab.report.terminal.printing import print_comparison_counts, print_left_out, print_norms

    comparisons = rows_of(read_table(store, "comparisons"))
    if verbose:
        print_norms(rows_of(read_table(store, "norms")), console())
        print_left_out(comparisons, console())
    else:
        print_comparison_counts(comparisons, store.address("").rstrip("/"), console())
