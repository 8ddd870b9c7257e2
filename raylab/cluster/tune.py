"""trials -> Ray Tune: each trial one Tune trial on its own slot, children after parents.

Model: a function trainable runs `raylab.train.trial.run_trial` in a worker that is reused for
the next trial, and reports progress, then the record's metrics. The store is the truth: Tune is
started anew over what is unfinished, never restored.
Invariant: Tune's result of a trial carries the metrics of its record under the same trial id.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylab.cluster.callbacks.failures import DEATHS_ALLOWED, Faults
from raylab.cluster.callbacks.progress import narrator
from raylab.cluster.callbacks.tracking import trackers
from raylab.cluster.dag import Dag, DagSearch, DagSearcher
from raylab.cluster.session import own_gpus, slots
from raylab.cluster.stop import Stop
from raylab.imports import loading
from raylab.plan.durations import estimate_durations
from raylab.plan.trials import Inputs, Trial
from raylab.spec.models import ResolvedModel
from raylab.spec.study import Study
from raylab.store.filesystem import TUNE, Store
from raylab.store.records import read_records


def train_trials(
    study: Study,
    inputs: Inputs,
    trials: Sequence[Trial],
    to_run: Sequence[Trial],
    store: Store,
    stop: Stop | None = None,
    listeners: Sequence[tune.Callback] = (),
) -> tune.ResultGrid:
    """Train `to_run`, a part of all `trials`, parents first. Failures are left in the store.

    `listeners` hear of every trial as well. Where `stop` is asked for, what runs is saved and
    nothing more begins. Raises KeyboardInterrupt where Tune was ended before all had ended.
    """
    stop = stop or Stop(store)
    asked = study.resources
    _, resources = slots(asked.gpus, asked.cpus)
    waiting = {trial.name for trial in to_run}
    done = frozenset(trial.name for trial in trials if trial.name not in waiting)
    durations = estimate_durations(study, inputs.rows, to_run, read_records(store)[0])
    dag = Dag(to_run, done, durations.by_name)
    configurations = {trial.name: {**trial.row, "parent": trial.parent or ""} for trial in to_run}
    trainable = tune.with_parameters(
        _trainable,
        study=study,
        trials={trial.name: trial for trial in trials},
        rows=dict(inputs.rows),
        bases=dict(inputs.base_models),
        out=store.uri,
    )
    _quiet()
    grid = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=DagSearch(
                DagSearcher(
                    dag, configurations, stop.is_asked, lambda: slots(asked.gpus, asked.cpus)[0]
                )
            ),
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
                Faults(store, to_run),
                narrator(trials, to_run, store, on_end=_Releaser(dag, trials, store)),
                *trackers(study, store),
                *listeners,
            ],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=DEATHS_ALLOWED),
        ),
    ).fit()
    if not (dag.exhausted or stop.is_asked()):
        # Tune returns as if all were well when its loop was ended from outside.
        raise KeyboardInterrupt
    return grid


def _trainable(
    config: dict[str, Any],
    study: Study,
    trials: Mapping[str, Trial],
    rows: Mapping[str, Any],
    bases: Mapping[str, ResolvedModel],
    out: str,
) -> None:
    """One trial on a worker. What fails here fails for good, and says so as a result: only a
    worker that dies is begun again by Tune."""
    _load()
    from raylab.reduce.passes import task_vector_norms
    from raylab.train.attempts import Placement, Stopped, cause_of, quiet_libraries
    from raylab.train.model import base_directory
    from raylab.train.trial import TrialTask, run_trial

    trial = trials[config["name"]]
    placement = Placement(own_gpus(), ray.get_runtime_context().get_node_id())
    try:
        base = base_directory(bases[trial.base_model])
        task = TrialTask(study, trial, trials, rows, base, out)
        with quiet_libraries():
            record = run_trial(
                task, task_vector_norms, lambda progress: tune.report(dict(progress)), placement
            )
    except Stopped:
        tune.report({"cause": "stopped"})
    except Exception as error:
        tune.report({"cause": cause_of(error), "message": str(error)})
    else:
        tune.report({key: value for key, value in record.metrics.items() if _is_one(value)})


@functools.cache
def _load() -> None:
    """What training needs, once for all trials of a worker."""
    with loading():
        import raylab.train.trial  # noqa: F401


def _is_one(value: Any) -> bool:
    """Whether a metric is one value; rates by kind and by data set are in the tables alone."""
    return value is not None and not isinstance(value, dict)


def _quiet() -> None:
    """Tune's remarks are about features that raylab does not use, and it prints the traceback of
    every failed trial, which the trial's log holds already."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\..*")


class _Releaser:
    """Deletes merged parents on every node as soon as their last child has ended."""

    def __init__(self, dag: Dag, trials: Sequence[Trial], store: Store) -> None:
        self._dag, self._store = dag, store
        self._ids = {trial.name: trial.id for trial in trials}
        self._released: set[str] = set()

    def __call__(self) -> None:
        for name in self._dag.finished_parents() - self._released:
            self._released.add(name)
            _release_everywhere(self._store.uri, self._ids[name])


def _release_everywhere(out: str, parent_id: str) -> None:
    for node in ray.nodes():
        if node["Alive"]:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)
            _release.options(num_cpus=0, scheduling_strategy=place).remote(out, parent_id)


@ray.remote
def _release(out: str, parent_id: str) -> None:
    from raylab.train.base_checkpoint import release

    release(Store(out), parent_id)
