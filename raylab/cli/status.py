"""The verb status: what became of every trial and merge of a study, and of finished models asked.

Model: the rows come from the store, once or again and again until the study has ended. The time
left is that of `raylab.plan.time_left`, out of the trials that have ended and of those that run.
Invariant: neither torch nor Ray is loaded, and nothing is written.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from raylab.cli.options import Json, Out, StudyFile, console, out_of
from raylab.errors import InputError
from raylab.plan.cache import questions_of
from raylab.plan.finished_parents import plan_finished_parents
from raylab.plan.merges import Asked, plan_merges
from raylab.plan.stored import distinct, find_results
from raylab.plan.time_left import TimeLeft, time_left
from raylab.plan.trials import Inputs, Trial, plan_trials, read_inputs
from raylab.results.table_rows import is_driven, live_rows, read_results
from raylab.spec.study import Study
from raylab.spec.study_file import load_study
from raylab.store.filesystem import Store
from raylab.store.phase import phase_line, read_study_phase


def status(
    study: StudyFile,
    out: Out = None,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again and again until the study has ended.")
    ] = False,
) -> None:
    """Show trials, merges and finished models that are asked, also while a study runs."""
    from raylab.report.terminal import live_display
    from raylab.report.terminal.printing import print_status

    if watch and as_json:
        raise InputError("--watch and --json exclude each other", todo="give one of them")
    loaded = load_study(study)
    inputs = read_inputs(loaded)
    trials = plan_trials(loaded, inputs)
    planned: list[Asked] = [
        *trials,
        *plan_merges(loaded, inputs, trials),
        *plan_finished_parents(loaded, inputs),
    ]
    store, limits = Store(out_of(loaded, out)), loaded.evaluation.limits
    left = _time_left(loaded, inputs, planned, store)
    if watch:
        live_display.watch(
            lambda: live_rows(read_results(planned, store, limits=limits)),
            live_display.open_display(sys.stdout, timed=False, left=left.seconds),
            lambda: is_driven(store),
            lambda: read_study_phase(store),
        )
    rows = live_rows(read_results(planned, store, limits=limits))
    phase = read_study_phase(store) if is_driven(store) else None
    if as_json:
        at = phase.document if phase else {"phase": None}
        print(json.dumps({**at, "trials": rows}, ensure_ascii=False, indent=1))
    else:
        words = phase_line(phase, time.time()) if phase else ""
        print_status(rows, console(), words, left.seconds(rows, time.time()))


def _time_left(study: Study, inputs: Inputs, planned: Sequence[Asked], store: Store) -> TimeLeft:
    """The time left of the trials that are not done; the machine that trains them is unknown."""
    found = find_results(planned, store, questions_of(study, inputs.rows))
    missing = [item for item in distinct(found.planned) if item.id not in found.records]
    trials = [item for item in missing if isinstance(item, Trial)]
    return time_left(study, inputs, trials, found.records)
