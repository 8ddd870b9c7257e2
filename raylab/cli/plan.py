"""The verb plan: every trial and merge of a study, and what they cost.

Model: the study and all that it names are read, and each table is printed in turn.
Invariant: neither torch nor Ray is loaded, but torch where a model has to be asked what an adapter
reaches, or whether it can be read. Nothing is written.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from raylab.cli.options import Json, Out, StudyFile, console, out_of, say, warn
from raylab.merge.study_checks import check_merges
from raylab.merge.study_tokenizers import output_tokenizers
from raylab.plan.cache import plan_states, questions_of
from raylab.plan.comparisons import comparisons_without_pairs
from raylab.plan.costs import costs_of
from raylab.plan.directions import check_directions
from raylab.plan.finished_parents import plan_finished_parents
from raylab.plan.framing import learned_lines
from raylab.plan.merges import Asked, plan_merges
from raylab.plan.resources import ASSUMED, disk_lines, gpu_demands
from raylab.plan.resuming import with_checkpoints
from raylab.plan.schedule import schedule_study
from raylab.plan.stored import distinct, find_results
from raylab.plan.this_machine import dtype_warning, has_gpu, time_here
from raylab.plan.trials import Inputs, Trial, plan_trials, read_inputs
from raylab.report.terminal.resources import print_demands, print_schedule, print_time_here
from raylab.spec.study import Study
from raylab.spec.study_file import load_study
from raylab.store.filesystem import Store
from raylab.store.references import location_of
from raylab.train.known_losses import check_losses
from raylab.train.known_targets import check_unknown_targets


def plan(
    study: StudyFile,
    out: Out = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Simulate the schedule on so many GPUs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every trial and merge: cached, to run or blocked, and which field made it new."""
    loaded = load_study(study)
    inputs = read_inputs(loaded)
    warn(inputs.warnings)
    check_losses(loaded, inputs, run_code=True)
    trials = plan_trials(loaded, inputs)
    targets = check_unknown_targets(loaded, inputs, trials)
    merges = plan_merges(loaded, inputs, trials)
    check_merges(loaded, inputs, trials, merges)
    warn(comparisons_without_pairs(loaded, [*trials, *merges]))
    _warn_of_models(loaded, inputs)
    questions, store = questions_of(loaded, inputs.rows), Store(out_of(loaded, out))
    asked: list[Asked] = [*trials, *merges, *plan_finished_parents(loaded, inputs)]
    found = find_results(asked, store, questions)
    needed = questions.of_merges.needed(found.planned)
    states = plan_states(found.planned, found.records, questions.id, inputs.own_decoding, needed)
    states = with_checkpoints(states, store)
    schedule = schedule_study(loaded, inputs, states, found.records, gpus) if gpus else None
    check_directions(loaded, inputs, trials)
    costs = {
        "tokenizers": output_tokenizers(merges, inputs),
        **costs_of(loaded, inputs, found.planned),
    }
    demands = gpu_demands(loaded, inputs, distinct(trials))
    here, warning = None, None
    if not has_gpu():
        missing = distinct(item.trial for item in states if item.state != "cached")
        to_train = [item for item in missing if isinstance(item, Trial)]
        here = time_here(loaded, inputs, to_train, found.records)
        warning = dtype_warning(loaded.quantization)
    if as_json:
        rows = [state.document for state in states]
        sizes = {"gpu": [row.document for row in demands], "assumed": ASSUMED}
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
    print_demands(demands, console())
    lines = list(disk_lines(loaded, inputs, distinct(found.planned)))
    lines += [cost.line for found in costs.values() for cost in found]
    for line in [*targets, *lines]:
        print(line)
    if schedule:
        print_schedule(schedule, console())
    if here:
        print_time_here(here, console())
    warn([warning] if warning else [])


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
