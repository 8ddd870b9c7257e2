"""merges -> Ray tasks: each merge one task with the resources of a trial.

Model: merges whose trials are done run side by side, as many as the cluster has room for. Each
task writes the record of its merge (`raylab.merge.study_merge`). The store is the truth.
Invariant: a merge that ends leaves a record, or an attempt with its cause, also if its worker
was lost. A merge that fails stops no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from raylab.cluster.session import slots
from raylab.cluster.study_context import StudyContext
from raylab.cluster.worker_gpu import use_own_gpu
from raylab.number_format import duration, number
from raylab.plan.merges import PlannedMerge
from raylab.plan.trials import Inputs, Trial
from raylab.spec.study import Study
from raylab.store.filesystem import Store
from raylab.store.records import Attempt, read_attempts, write_attempt


def make_merges(
    context: StudyContext, merges: Sequence[PlannedMerge], say: Callable[[str], None]
) -> None:
    """Make `merges`, whose trials are done. Failures are left in the store."""
    study, store = context.study, context.store
    _, resources = slots(study.resources.gpus, study.resources.cpus)
    task: Any = _make.options(num_cpus=resources["cpu"], num_gpus=resources.get("gpu", 0))
    trials = {trial.name: trial for trial in context.trials}
    common = ray.put((study, context.inputs, trials, store.uri))
    before = {merge.id: len(read_attempts(store, merge.folder)) for merge in merges}
    pending = {task.remote(merge, common): merge for merge in merges}
    try:
        while pending:
            (reference,), _ = ray.wait(list(pending), num_returns=1)
            merge = pending.pop(reference)
            count = f"[{len(merges) - len(pending)}/{len(merges)}]"
            try:
                metrics = ray.get(reference)
            except RayError as error:
                record_failure(store, merge, before[merge.id], error)
                say(f"{count} {merge.name}  failed; the trial table says why")
            else:
                seconds, l2 = duration(metrics["seconds"]), number(metrics["l2"])
                say(f"{count} {merge.name}  done in {seconds} s  L2 {l2}")
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


# The next run tries again. A process ends with its merge: Ray 2.60 would give it the next one with
# another GPU, since it does not know here that merges take GPUs (remote_function.py).
@ray.remote(max_retries=0, max_calls=1)
def _make(
    merge: PlannedMerge, common: tuple[Study, Inputs, Mapping[str, Trial], str]
) -> Mapping[str, Any]:
    """Make one merge on a worker; return its metrics."""
    gpus = use_own_gpu()
    from raylab.merge.study_merge import MergeTask, run_merge
    from raylab.train.attempts import Placement, quiet_libraries
    from raylab.train.model import base_directory

    study, inputs, trials, out = common
    finished = {
        item.model: base_directory(inputs.models[item.model])
        for item in merge.request.inputs
        if item.model in inputs.models
    }
    base = base_directory(inputs.base_models[merge.base_model])
    task = MergeTask(study, merge, trials, finished, inputs.rows, base, out)
    with quiet_libraries():
        return run_merge(task, Placement(gpus)).metrics


def record_failure(store: Store, merge: PlannedMerge, before: int, error: RayError) -> None:
    """Write an attempt for a merge that had `before` attempts, unless its worker did so."""
    if len(read_attempts(store, merge.folder)) > before:
        return
    lost = f"its worker was lost: {error}"
    reason = error.cause if isinstance(error, RayTaskError) else lost
    attempt = Attempt(attempt=before + 1, cause="error", message=f"{reason}".strip()[:500])
    write_attempt(store, merge.folder, attempt)
