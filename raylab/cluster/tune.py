"""trials -> Ray Tune: each trial one Tune trial on its own slot, children after parents.

Model: a function trainable calls `raylab.train.trial.run_trial` in a worker that Tune reuses for
the next trial. It reports progress, then the record's metrics. The store is the truth: Tune starts
anew with the unfinished trials, and is never restored.
Invariant: Tune's result of a trial carries the metrics of its record under the same trial id.
"""

from __future__ import annotations

import functools
import gc
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray import tune
from ray.tune import ExperimentAnalysis
from ray.tune.execution import class_cache
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler

from raylab.cluster.callbacks.failures import MAX_DEATHS, FailureCallback
from raylab.cluster.callbacks.progress import ProgressCallback, stderr_display
from raylab.cluster.callbacks.tracking import tracking_callbacks
from raylab.cluster.dag import Dag, DagSearch, DagSearcher
from raylab.cluster.parent_cleanup import delete_parents
from raylab.cluster.session import StopRequest, has_gpus, slots
from raylab.cluster.study_context import StudyContext
from raylab.cluster.worker_gpu import use_own_gpu
from raylab.errors import ClusterError, StoreError
from raylab.imports import loading
from raylab.plan.comparisons import first_pair
from raylab.plan.durations import estimate_durations
from raylab.plan.merges import Planned
from raylab.plan.resuming import checkpoint_text
from raylab.plan.time_left import assumed_rate, time_left
from raylab.plan.trials import Trial
from raylab.report.terminal.live_display import Left
from raylab.spec.models import ResolvedModel
from raylab.spec.study import Study
from raylab.store.attempt_state import clear_running, stop_checker, write_progress
from raylab.store.filesystem import TUNE, Store
from raylab.store.phase import BASE_MODEL, LOADING, NUMBERS, Phase, phase_of
from raylab.store.records import Attempt, read_attempts, write_attempt


def train_trials(
    context: StudyContext,
    to_run: Sequence[Trial],
    request: StopRequest | None = None,
    callbacks: Sequence[tune.Callback] = (),
    merges: Sequence[Planned] = (),
) -> tune.ResultGrid:
    """Train `to_run`, a part of the study's trials, each once, parents first. Failures go to the
    store.

    `callbacks` get Tune's events as well; `merges` wait as well, and are only shown. Once `request`
    is made, running trials are saved and no other starts. Raises KeyboardInterrupt if Tune was
    ended before all trials had ended.
    """
    study, store, trials = context.study, context.store, context.trials
    request = request or StopRequest(store)
    gpus, cpus = study.resources.gpus, study.resources.cpus
    _, resources = slots(gpus, cpus)
    waiting = {trial.name for trial in to_run}
    done = frozenset(trial.name for trial in trials if trial.name not in waiting)
    durations = estimate_durations(study, context.inputs.rows, to_run, context.records())
    dag = Dag(to_run, done, durations.by_name, first_pair(context.comparisons))
    searcher = DagSearcher(
        dag,
        {trial.name: {**trial.row, "parent": trial.parent or ""} for trial in to_run},
        request.is_made,
        lambda: slots(gpus, cpus)[0],
    )
    trainable = tune.with_parameters(
        _trainable,
        study=study,
        trials={trial.name: trial for trial in trials},
        rows=dict(context.inputs.rows),
        bases=dict(context.inputs.base_models),
        out=store.uri,
    )
    # A variable for PyTorch Lightning alone. For its sake Ray 2.60 starts processes, and those that
    # wait for work are left.
    class_cache.DEFAULT_ENV_VARS.clear()
    _silence_tune()
    grid = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=DagSearch(searcher),
            scheduler=_StoppingScheduler(request.is_made),
            num_samples=len(to_run),
            max_concurrent_trials=None,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["name"],
            trial_dirname_creator=lambda trial: f"{trial.config['name']}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=TUNE,
            storage_path=store.uri,
            callbacks=[
                FailureCallback(store, to_run),
                ProgressCallback(
                    context.planned,
                    [*to_run, *merges],
                    store,
                    _ParentCleanup(dag, trials, store),
                    functools.partial(stderr_display, _time_left(context, to_run)),
                ),
                *tracking_callbacks(study, store),
                _NoProgress(),
                *callbacks,
            ],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_DEATHS),
        ),
    ).fit()
    if not (dag.exhausted or request.is_made()):
        # Tune returns as if all were well when its loop was ended from outside.
        raise KeyboardInterrupt
    return grid


def _time_left(context: StudyContext, to_run: Sequence[Trial]) -> Left:
    """The time until the last of `to_run` ends, on the slots that the cluster has by then."""
    study = context.study
    rate = assumed_rate(study, on_gpus=has_gpus())
    size = study.resources.gpus, study.resources.cpus
    return time_left(
        study,
        context.inputs,
        to_run,
        context.records(),
        functools.partial(_count_slots, *size),
        rate,
    ).seconds


def _count_slots(gpus: float, cpus: float) -> int:
    return slots(gpus, cpus)[0]


def result_grid(store: Store) -> tune.ResultGrid:
    """Tune's ResultGrid of the last run that trained any trial. Raises StoreError if none did.

    The tables of the store hold the trials of all runs.
    """
    try:
        found = ExperimentAnalysis(store.path(TUNE), storage_filesystem=store.file_system)
    except ValueError as error:
        raise StoreError(
            "Ray Tune has written nothing there",
            found=store.address(TUNE),
            expected="a study that `raylab run` trained",
        ) from error
    return tune.ResultGrid(found)


def _trainable(
    config: dict[str, Any],
    study: Study,
    trials: Mapping[str, Trial],
    rows: Mapping[str, Any],
    bases: Mapping[str, ResolvedModel],
    out: str,
) -> None:
    """Train one trial on a worker. An exception here is final, and is reported as a result: Tune
    restarts only a trial whose worker died."""
    try:
        gpus = use_own_gpu()
    except ClusterError as error:
        tune.report({"cause": error.cause, "message": str(error)})
        return
    trial, store = trials[config["name"]], Store(out)
    if stop_checker(store)():
        tune.report({"cause": "stopped", "message": checkpoint_text(trial, store)})
        return

    def listen(progress: Mapping[str, Any]) -> None:
        phase = phase_of(progress)
        assert phase, "a progress has one"
        tune.report({**progress, "phase": phase.text})

    def tell(name: str) -> None:
        numbers = {**dict.fromkeys(NUMBERS), "checkpoint": 0}
        progress = {**numbers, **Phase(name, time.time()).document}
        write_progress(store, trial.folder, progress)
        listen(progress)

    if not _import_training.cache_info().currsize:
        tell(LOADING)
    _import_training()
    from raylab.reduce.passes import task_vector_norms
    from raylab.train.attempts import Placement, Stopped, cause_of, quiet_libraries
    from raylab.train.model import base_directory
    from raylab.train.trial import TrialTask, run_trial

    before = len(read_attempts(store, trial.folder))
    placement = Placement(gpus, ray.get_runtime_context().get_node_id())
    try:
        if bases[trial.base_model].directory is None:
            tell(BASE_MODEL)
        base = base_directory(bases[trial.base_model])
        task = TrialTask(study, trial, trials, rows, base, out)
        with quiet_libraries():
            record = run_trial(task, task_vector_norms, listen, placement)
    except Stopped:
        clear_running(store, trial.folder)
        tune.report({"cause": "stopped", "message": checkpoint_text(trial, store)})
    except Exception as error:
        cause, message = cause_of(error), str(error)
        clear_running(store, trial.folder)
        if len(read_attempts(store, trial.folder)) == before:
            # It failed before it was an attempt: its base model is not there.
            failed = Attempt(attempt=before + 1, cause=cause, message=message[:500])
            write_attempt(store, trial.folder, failed)
        tune.report({"cause": cause, "message": message})
    else:
        # Rates by kind and by data set, which are dictionaries, are in the tables alone.
        single = {k: v for k, v in record.metrics.items() if v is not None}
        tune.report({k: v for k, v in single.items() if not isinstance(v, dict)})


@functools.cache
def _import_training() -> None:
    """Import what training needs, once for all trials of a worker."""
    with loading():
        import raylab.train.trial  # noqa: F401
    # Every trainer collects garbage; to search what the libraries hold takes half a second.
    gc.collect()
    gc.freeze()


class _StoppingScheduler(FIFOScheduler):
    """Tune's own, which ends the trials that wait once the driver is to stop.

    Ray 2.60 would start every trial that its searcher has given it.
    """

    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        super().__init__()
        self._is_stopping = is_stopping

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The next trial that waits, or None."""
        if not self._is_stopping():
            return super().choose_trial_to_run(tune_controller)
        for trial in tune_controller.get_trials():
            if trial.status == trial.PENDING:
                tune_controller.stop_trial(trial)
        return None


class _NoProgress(TrialProgressCallback):
    """Takes the place of Tune's own, which prints a line for a trial that never began."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print nothing."""


def _silence_tune() -> None:
    """Hide Tune's remarks on features that raylab does not use, and the tracebacks of failed
    trials, which the trials' logs hold."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\..*")


class _ParentCleanup:
    """Deletes merged parents on every node as soon as their last child has ended."""

    def __init__(self, dag: Dag, trials: Sequence[Trial], store: Store) -> None:
        self._dag, self._store = dag, store
        self._ids = {trial.name: trial.id for trial in trials}
        self._deleted: set[str] = set()

    def __call__(self) -> None:
        for name in self._dag.finished_parents() - self._deleted:
            self._deleted.add(name)
            delete_parents(self._store.uri, [self._ids[name]])
