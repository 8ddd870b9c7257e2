"""Which trial may start next: the DAG of parents as a search algorithm of Ray Tune.

Model: Tune asks for the next configuration whenever a slot is free. The answer is a trial whose
parent is done, None while all trials that are left wait, or FINISHED. Of the trials that are
ready, one of the study's first pair starts first, then the one with the longest path below it, as
in `raylab.plan.schedule`.
Invariant: a trial starts once, and a child only after its parent has succeeded. The descendants
of a failed trial never start. Tune's trial id is raylab's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ray.tune.experiment.config_parser import _create_trial_from_spec
from ray.tune.search import SearchGenerator
from ray.tune.search.searcher import Searcher

from raylab.plan.schedule import critical_paths, highest_priority
from raylab.plan.trials import Trial


class Dag:
    """The state of the trials that are to run."""

    def __init__(
        self,
        trials: Sequence[Trial],
        done: frozenset[str],
        durations: Mapping[str, float] | None = None,
        first: Collection[str] = (),
    ) -> None:
        """`trials` are to run, parents first; `done` names the trials that need not run.

        `durations` are estimates by name; without them, all trials are equally long. `first` names
        the trials that start before others.
        """
        self._trials, self._first = {trial.name: trial for trial in trials}, first
        self._children: dict[str, list[Trial]] = {}
        for trial in trials:
            if trial.parent:
                self._children.setdefault(trial.parent, []).append(trial)
        self._done = set(done)
        self._failed: set[str] = set()
        self._started: set[str] = set()
        parents = {trial.name: trial.parent for trial in trials}
        self._path_lengths = critical_paths(parents, durations or dict.fromkeys(parents, 1.0))

    def take(self) -> Trial | None:
        """A trial that may start now, or None."""
        ready = [trial.name for trial in self._trials.values() if self._is_ready(trial)]
        if not ready:
            return None
        chosen = highest_priority(ready, self._path_lengths, self._first)
        self._started.add(chosen)
        return self._trials[chosen]

    def _is_ready(self, trial: Trial) -> bool:
        is_new = trial.name not in self._started
        return is_new and (trial.parent is None or trial.parent in self._done)

    def end(self, name: str, *, failed: bool) -> None:
        """Note that `name` has ended."""
        (self._failed if failed else self._done).add(name)

    @property
    def in_flight(self) -> int:
        """The number of trials that were started and have not ended."""
        return len(self._started - self._done - self._failed)

    @property
    def exhausted(self) -> bool:
        """Whether no trial can start any more: none is ready, and none runs."""
        return not self.in_flight and not any(map(self._is_ready, self._trials.values()))

    def finished_parents(self) -> set[str]:
        """Trials all of whose children have ended or will never start."""

        def is_open(trial: Trial) -> bool:
            ended = trial.name in self._done or trial.name in self._failed
            return not ended and not any(name in self._failed for name in trial.lineage)

        return {name for name, below in self._children.items() if not any(map(is_open, below))}


class DagSearcher(Searcher):
    """Tune's view of a Dag; a configuration is the flat row of a trial."""

    def __init__(
        self,
        dag: Dag,
        configurations: Mapping[str, Mapping[str, Any]],
        is_stopping: Callable[[], bool] = lambda: False,
        capacity: Callable[[], int] | None = None,
    ) -> None:
        """`configurations` holds the flat row of every trial, by name. Once `is_stopping`, no
        trial starts any more. `capacity`: the number of trials that fit the cluster now. One more
        than that is given to Tune, so that a worker is reused and an autoscaling cluster grows;
        not more, because the most urgent trial may become ready later."""
        super().__init__()
        self._dag, self._is_stopping, self._capacity = dag, is_stopping, capacity
        self._configurations = configurations
        self._names: dict[str, str] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next configuration, None, or FINISHED."""
        if self._is_stopping():
            return Searcher.FINISHED
        is_full = self._capacity is not None and self._dag.in_flight > self._capacity()
        trial = None if is_full else self._dag.take()
        if trial is None:
            return Searcher.FINISHED if self._dag.exhausted else None
        self._names[trial.id] = trial.name
        return dict(self._configurations[trial.name])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note that a trial has ended; it has failed if its last result names a cause."""
        self._dag.end(self._names[trial_id], failed=error or "cause" in (result or {}))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store is the truth, and a rerun plans anew."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class DagSearch(SearchGenerator):
    """Creates Tune trials under raylab's ids, so that its ResultGrid agrees with the tables.

    Ray 2.60 draws a random id for every trial of a searcher and offers no way to choose it.
    """

    def create_trial_if_possible(self, experiment_spec: dict[str, Any]) -> Any:
        """The next Tune trial, or None."""
        suggested = self.searcher.suggest("")
        if suggested == Searcher.FINISHED:
            self.set_finished()
            return None
        if suggested is None:
            return None
        self._counter += 1
        return _create_trial_from_spec(
            {**experiment_spec, "config": {**experiment_spec["config"], **suggested}},
            self._parser,
            evaluated_params=suggested,
            experiment_tag=str(self._counter),
            trial_id=suggested["trial_id"],
        )
