"""Finished models of merges -> Ray tasks: each is asked in one task with the resources of a trial.

Model: as for merges (`raylab.cluster.merge_tasks`); a line says how each of them ended, since they
have no rows of the trials table.
Invariant: one that ends leaves a record, or an attempt with its cause. One that fails stops no
other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from raylab.cluster.merge_tasks import record_failure
from raylab.cluster.session import slots
from raylab.cluster.study_context import StudyContext
from raylab.cluster.worker_gpu import use_own_gpu
from raylab.plan.finished_parents import FinishedParent
from raylab.plan.trials import Inputs
from raylab.spec.study import Study
from raylab.store.attempt_state import write_progress
from raylab.store.filesystem import Store
from raylab.store.phase import FINISHED, LOADING, Phase, Tell, silent
from raylab.store.records import read_attempts


def ask_finished(
    context: StudyContext,
    models: Sequence[FinishedParent],
    say: Callable[[str], None],
    tell: Tell = silent,
) -> None:
    """Ask `models`, and say how each ended. Failures are left in the store."""
    study, store = context.study, context.store
    _, resources = slots(study.resources.gpus, study.resources.cpus)
    task: Any = _ask.options(num_cpus=resources["cpu"], num_gpus=resources.get("gpu", 0))
    common = ray.put((study, context.inputs, store.uri))
    before = {model.id: len(read_attempts(store, model.folder)) for model in models}
    pending = {task.remote(model, common): model for model in models}
    try:
        while pending:
            tell(FINISHED, len(models) - len(pending), len(models))
            (ended,), _ = ray.wait(list(pending), num_returns=1)
            model = pending.pop(ended)
            say(_outcome(store, model, before[model.id], ended))
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _outcome(store: Store, model: FinishedParent, before: int, reference: Any) -> str:
    """How a task ended, as a line; one that failed leaves an attempt."""
    try:
        seconds = ray.get(reference)
    except RayError as error:
        last = record_failure(store, model, before, error)
        return f"{model.name} could not be asked: {last.cause}: {last.message}"
    return f"{model.name} was asked in {seconds:.0f} s"


# See `raylab.cluster.merge_tasks` for the process that ends with its task.
@ray.remote(max_retries=0, max_calls=1)
def _ask(model: FinishedParent, common: tuple[Study, Inputs, str]) -> float:
    """Ask one model on a worker; return the seconds that it took."""
    gpus = use_own_gpu()
    study, inputs, out = common
    loading = Phase(LOADING, time.time())
    write_progress(Store(out), model.folder, loading.document)
    from raylab.train.attempts import Placement, quiet_libraries
    from raylab.train.finished_model import FinishedTask, ask_finished_model
    from raylab.train.model import base_directory

    directory = base_directory(inputs.models[model.name])
    base = base_directory(inputs.base_models[model.base_model])
    task = FinishedTask(study, model, directory, inputs.rows, base, out)
    with quiet_libraries():
        return float(ask_finished_model(task, Placement(gpus)).metrics["seconds"])
