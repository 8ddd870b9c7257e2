"""merges -> Ray tasks: each merge one task with the resources of a trial.

Model: merges whose trials are done run side by side, as many as the cluster has room for. Each
task writes the record of its merge (`raylab.merge.study_merge`). The store is the truth.
While they run, their progress is read from the store.
Invariant: a merge that ends leaves a record, or an attempt with its cause, also if its worker
was lost. A merge that fails stops no other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from raylab.cluster.session import slots
from raylab.cluster.study_context import StudyContext
from raylab.cluster.study_progress import StudyProgress
from raylab.cluster.worker_gpu import use_own_gpu
from raylab.plan.finished_parents import FinishedParent
from raylab.plan.merges import PlannedMerge
from raylab.plan.trials import Inputs, Trial
from raylab.report.terminal.live_display import Display
from raylab.results.table_rows import read_results, trial_rows
from raylab.spec.study import Study
from raylab.store.attempt_state import clear_running, write_progress
from raylab.store.filesystem import Store
from raylab.store.phase import LOADING, MERGES, NUMBERS, WORKERS, Phase, Tell, phase_of, silent
from raylab.store.records import Attempt, read_attempts, read_progress, write_attempt

_LOOK_SECONDS = 2.0
_REDRAW_SECONDS = 0.5


def make_merges(
    context: StudyContext, merges: Sequence[PlannedMerge], display: Display, tell: Tell = silent
) -> None:
    """Make `merges`, whose trials are done, and show them. Failures are left in the store."""
    study, store = context.study, context.store
    _, resources = slots(study.resources.gpus, study.resources.cpus)
    task: Any = _make.options(num_cpus=resources["cpu"], num_gpus=resources.get("gpu", 0))
    trials = {trial.name: trial for trial in context.trials}
    common = ray.put((study, context.inputs, trials, store.uri))
    before = {merge.id: len(read_attempts(store, merge.folder)) for merge in merges}
    progress = _progress_of(context, merges)
    progress.open(display)
    pending = {task.remote(merge, common): merge for merge in merges}
    looked = 0.0
    tell(WORKERS)
    try:
        while pending:
            if any(row["status"] == "running" for row in progress.rows.values()):
                tell(MERGES, len(merges) - len(pending), len(merges))
            ended, _ = ray.wait(list(pending), num_returns=1, timeout=_REDRAW_SECONDS)
            for reference in ended:
                merge = pending.pop(reference)
                progress.end(_outcome(store, merge, before[merge.id], reference, progress))
            if time.monotonic() - looked >= _LOOK_SECONDS:
                looked = time.monotonic()
                _look(store, pending.values(), progress)
            progress.update()
    finally:
        progress.close()
        for reference in pending:
            ray.cancel(reference, force=True)


def _progress_of(context: StudyContext, merges: Sequence[PlannedMerge]) -> StudyProgress:
    """The rows of the study, `merges` waiting."""
    rows = {row["name"]: row for row in trial_rows(read_results(context.planned, context.store))}
    for merge in merges:
        rows[merge.name] |= {"status": "pending", "cause": None, "message": None}
    return StudyProgress(context.planned, rows)


def _look(store: Store, merges: Iterable[PlannedMerge], progress: StudyProgress) -> None:
    """Read the progress of merges that run."""
    for merge in merges:
        told = read_progress(store, merge.folder)
        phase = phase_of(told)
        if told is None or phase is None:
            continue
        begins = progress.rows[merge.name]["status"] != "running"
        numbers = {key: told.get(key) for key in NUMBERS}
        row = progress.change(merge.name, status="running", phase=phase.text, **numbers)
        if begins:
            progress.begin(row)


def _outcome(
    store: Store, merge: PlannedMerge, before: int, reference: Any, progress: StudyProgress
) -> dict[str, Any]:
    """The row of a merge that has ended; one that failed leaves an attempt."""
    try:
        metrics = ray.get(reference)
    except RayError as error:
        last = record_failure(store, merge, before, error)
        values = {"cause": last.cause, "message": last.message}
        return progress.change(merge.name, status="failed", **values)
    values = {"seconds": metrics["seconds"], "l2": metrics["l2"]}
    return progress.change(merge.name, status="done", **values)


# The next run tries again. A process ends with its merge: Ray 2.60 would give it the next one with
# another GPU, since it does not know here that merges take GPUs (remote_function.py).
@ray.remote(max_retries=0, max_calls=1)
def _make(
    merge: PlannedMerge, common: tuple[Study, Inputs, Mapping[str, Trial], str]
) -> Mapping[str, Any]:
    """Make one merge on a worker; return its metrics."""
    gpus = use_own_gpu()
    study, inputs, trials, out = common
    loading = Phase(LOADING, time.time())
    write_progress(Store(out), merge.folder, loading.document)
    from raylab.merge.study_merge import MergeTask, run_merge
    from raylab.train.attempts import Placement, quiet_libraries
    from raylab.train.model import base_directory

    asked = merge.request.tokenizer
    named = [item.model for item in merge.request.inputs] + ([asked.source] if asked else [])
    finished = {n: base_directory(inputs.models[n]) for n in named if n in inputs.models}
    base = base_directory(inputs.base_models[merge.base_model])
    task = MergeTask(study, merge, trials, finished, inputs.rows, base, out)
    with quiet_libraries():
        return run_merge(task, Placement(gpus)).metrics


def record_failure(
    store: Store, merge: PlannedMerge | FinishedParent, before: int, error: RayError
) -> Attempt:
    """The last attempt of a task that had `before` attempts and failed; it is written here where
    its worker did not write it. The task runs no longer."""
    attempts = list(read_attempts(store, merge.folder))
    if len(attempts) <= before:
        lost = f"its worker was lost: {error}"
        reason = error.cause if isinstance(error, RayTaskError) else lost
        message = f"{reason}".strip()[:500]
        attempts.append(Attempt(attempt=before + 1, cause="error", message=message))
        write_attempt(store, merge.folder, attempts[-1])
    clear_running(store, merge.folder)
    return attempts[-1]
