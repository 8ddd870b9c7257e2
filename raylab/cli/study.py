"""The verbs of a study: plan, run, train, reduce, report, doctor and schema.

Model: a verb reads the study, calls one stage and prints its result. Results go to standard
output, messages along the way to standard error.
Invariant: `plan` and `schema` load neither torch nor Ray.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from raylab.cli.options import (
    Address,
    Format,
    Formats,
    Json,
    Lang,
    Language,
    Out,
    StudyFile,
    Verbose,
    console,
    out_of,
    say,
)
from raylab.errors import InputError
from raylab.imports import loading
from raylab.merge.study_checks import check_merges
from raylab.plan.cache import plan_states, questions_of
from raylab.plan.comparisons import comparisons_without_pairs
from raylab.plan.costs import costs_of
from raylab.plan.directions import check_directions
from raylab.plan.framing import learned_lines
from raylab.plan.merges import plan_merges
from raylab.plan.resources import ASSUMED, disk_lines, gpu_demands
from raylab.plan.resuming import with_checkpoints
from raylab.plan.schedule import schedule_study
from raylab.plan.stored import distinct, find_results
from raylab.plan.this_machine import dtype_warning, has_gpu, time_here
from raylab.plan.trials import Inputs, Trial, plan_trials, read_inputs
from raylab.report.terminal.phase_lines import said_phases
from raylab.spec.merge_variants import result_names
from raylab.spec.study import Study
from raylab.spec.study_file import load_study
from raylab.store.filesystem import Store
from raylab.store.phase import LOADING, REPORT
from raylab.store.references import location_of
from raylab.store.studies import store_of_study, study_at
from raylab.store.study_plan import NamedResult, StudyPlan
from raylab.store.tables import read_table, read_tables, rows_of
from raylab.train.known_losses import check_losses
from raylab.train.known_targets import trials_to_ask


def plan(
    study: StudyFile,
    out: Out = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Simulate the schedule on so many GPUs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every trial and merge: cached, to run or blocked, and which field made it new."""
    from raylab.report.terminal.resources import print_demands, print_schedule, print_time_here

    loaded = load_study(study)
    inputs = read_inputs(loaded)
    _warn(inputs.warnings)
    check_losses(loaded, inputs, run_code=True)
    trials = plan_trials(loaded, inputs)
    targets = _targets(loaded, inputs, trials)
    merges = plan_merges(loaded, inputs, trials)
    check_merges(loaded, inputs, trials, merges)
    _warn(comparisons_without_pairs(loaded, [*trials, *merges]))
    _warn_of_models(loaded, inputs)
    questions, store = questions_of(loaded, inputs.rows), Store(out_of(loaded, out))
    found = find_results([*trials, *merges], store, questions)
    needed = questions.of_merges.needed(found.planned)
    states = plan_states(found.planned, found.records, questions.id, inputs.own_decoding, needed)
    states = with_checkpoints(states, store)
    schedule = schedule_study(loaded, inputs, states, found.records, gpus) if gpus else None
    check_directions(loaded, inputs, trials)
    costs = costs_of(loaded, inputs, found.planned)
    asked = gpu_demands(loaded, inputs, distinct(trials))
    here, warning = None, None
    if not has_gpu():
        missing = distinct(item.trial for item in states if item.state != "cached")
        to_train = [item for item in missing if isinstance(item, Trial)]
        here = time_here(loaded, inputs, to_train, found.records)
        warning = dtype_warning(loaded.quantization)
    if as_json:
        rows = [state.document for state in states]
        sizes = {"gpu": [row.document for row in asked], "assumed": ASSUMED}
        scheduled = {"schedule": schedule} if schedule else {}
        on_cpu = {"here": here.document} if here else {}
        reached = {"targets": targets} if targets else {}
        learned = {"learns": learned_lines(loaded, inputs.rows)}
        counted = {name: [cost.document for cost in found] for name, found in costs.items()}
        document = {"trials": rows, **learned, **sizes, **reached, **scheduled, **on_cpu, **counted}
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return
    view = Table("trial", "id", "state", "why", box=None, pad_edge=False)
    for item in states:
        mark = " (provisional)" if item.trial.provisional else ""
        view.add_row(item.trial.name, item.trial.id + mark, item.state, item.why)
    console().print(view)
    for line in learned_lines(loaded, inputs.rows):
        print(line)
    print_demands(asked, console())
    lines = list(disk_lines(loaded, inputs, distinct(found.planned)))
    lines += [cost.line for found in costs.values() for cost in found]
    for line in [*targets, *lines]:
        print(line)
    if schedule:
        print_schedule(schedule, console())
    if here:
        print_time_here(here, console())
    _warn([warning] if warning else [])


def _warn_of_models(study: Study, inputs: Inputs) -> None:
    """Warn of finished models that a reduction will not be able to read; torch is loaded for
    these alone."""
    if not study.models:
        return
    from raylab.weights.unreadable import unreadable

    for base, found in inputs.base_models.items():
        places = {
            name: location_of(directory, found.directory)
            for name, model in study.models.items()
            if model.base_model == base and (directory := inputs.models[name].directory)
        }
        causes = unreadable(study, found.directory, places) if places else {}
        for name, cause in causes.items():
            say(f"warning: the model {name} cannot be reduced: {cause}")


def _targets(study: Study, inputs: Inputs, trials: list[Trial]) -> list[str]:
    """What adapters reach where that is not known; torch is loaded for these alone.

    Raises ModelError.
    """
    if not trials_to_ask(study, inputs, trials):
        return []
    from raylab.train.targets import check_targets

    return check_targets(study, inputs, trials)


def run(
    study: StudyFile, out: Out = None, address: Address = None, verbose: Verbose = False
) -> None:
    """Train, reduce and report; run again: what is done stays as it is."""
    from raylab.report.study_tables import Tables, settings_of
    from raylab.report.terminal.verdict_table import print_found

    stages, context = _prepared(study, out)
    _warn([*context.inputs.warnings, *comparisons_without_pairs(context.study, context.planned)])
    complete = stages.run(context, address, say)
    _print_trials(context.store)
    _print_comparisons(context.store, verbose=verbose)
    tables = Tables(read_tables(context.store), settings_of(context.study))
    console().line()
    print_found(tables, console())
    print(f"report: {context.store.address('report/report.html')}")
    if not complete:
        raise typer.Exit(1)


def train(study: StudyFile, out: Out = None, address: Address = None) -> None:
    """Train the trials and make the merges that are not in the store."""
    stages, context = _prepared(study, out)
    _warn(context.inputs.warnings)
    complete = stages.train(context, address, say)
    _print_trials(context.store)
    if not complete:
        raise typer.Exit(1)


def reduce(
    study: StudyFile, out: Out = None, address: Address = None, verbose: Verbose = False
) -> None:
    """Reduce every comparison whose two sides are in the store."""
    stages, context = _prepared(study, out)
    complete = stages.reduce(context, address, say)
    _print_comparisons(context.store, verbose=verbose)
    if not complete:
        raise typer.Exit(1)


def report(
    study: StudyFile, out: Out = None, lang: Lang = Language.en, formats: Formats = None
) -> None:
    """Write the report out of the tables in the store."""
    say(REPORT)
    from raylab.report.page.pdf import find_chromium, write_pdf

    wanted = formats or [Format.html]
    chromium = find_chromium() if Format.pdf in wanted else None
    import pyarrow as pa

    from raylab.report.page.render import build_report, page_key
    from raylab.results.left_out import left_out, lines_of, missing_rows

    loaded = load_study(study)
    store = Store(out_of(loaded, out))
    place = store_of_study(store, loaded.name)
    if place is None:
        raise InputError(
            "the study has no tables there",
            found=f"those of {study_at(store)}, at {store.address('')}",
            expected=f"those of {loaded.name}",
            todo="run it there: `raylab run` trains nothing that is in OUT",
        )
    asked = result_names(loaded)
    rows = rows_of(read_table(place, "trials"))
    if line := missing_rows(asked, [row["name"] for row in rows]):
        say(f"{line}; `raylab run` makes them anew")
    results = tuple(
        NamedResult(name=row["name"], id=row["trial_id"], base_model=row["model"]) for row in rows
    )
    shown = StudyPlan(study=loaded.name, results=results)
    others = left_out(store, shown)
    # Arrow's own allocator keeps what is freed: an eighth of the memory that a report takes.
    pa.set_memory_pool(pa.system_memory_pool())
    address = build_report(loaded, place, lang.value, others, figures=Format.figures in wanted)
    for line in lines_of(store, loaded.name, others):
        say(line)
    print(f"report: {address}")
    if chromium:
        print(f"pdf: {write_pdf(place, page_key(lang.value), chromium)}")


def doctor(
    address: Address = None,
    storage: Annotated[
        str | None, typer.Option(help="A directory or URI that every node should reach.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what every node of a cluster sees, and what would make a study fail there."""
    from raylab.cluster.doctor.examine import examine
    from raylab.report.terminal.resources import print_examination

    found = examine(address, storage)
    if as_json:
        print(json.dumps(found.document, ensure_ascii=False, indent=1))
    else:
        print_examination(found.document, found.cells, console())
    if not found.healthy:
        raise typer.Exit(1)


def schema() -> None:
    """Print the JSON schema of a study file, for editors that complete it."""
    print(json.dumps(Study.model_json_schema(), ensure_ascii=False, indent=1))


def _prepared(file: Path, out: str | None) -> tuple[Any, Any]:
    """(the stages, the StudyContext of the study with everything that it names)."""
    with said_phases(say, LOADING) as tell:
        with loading():
            from raylab.cluster import stages

        loaded = load_study(file)
        return stages, stages.prepare(loaded, out_of(loaded, out), tell=tell)


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        say(f"warning: {line}")


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
