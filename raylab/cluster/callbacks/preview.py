"""Previews: comparisons measured while trials still train, as soon as both sides exist.

Model: when a trial ends, the comparisons of adapters that have become possible are queued. One
after another, a Ray task that takes no slot from a trial measures norms and thresholds in one
thread, and the tables hold the results so far.
Invariant: nothing depends on a preview: the reduction that follows measures all comparisons anew
and writes the tables whole. A task that fails costs its preview alone, and is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from raylab.cluster.study_context import StudyContext
from raylab.cluster.worker_gpu import use_own_gpu
from raylab.plan.comparisons import PlannedComparison
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.reduce.tables import Tables
from raylab.store.references import ModelLocation
from raylab.store.tables import write_table
from raylab.weights.adapter_config import needs_base

_TABLES = ("norms", "densities")


class PreviewCallback(tune.Callback):
    """Queues, starts and collects the previews of a study that trains."""

    def __init__(self, context: StudyContext, say: Callable[[str], None]) -> None:
        """Nothing is measured yet."""
        self._context, self._say = context, say
        self._left = [c for c in context.comparisons if _is_of_adapters(c)]
        self._queue: list[PlannedComparison] = []
        self._running: tuple[Any, str] | None = None
        self._rows = Tables()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended: queue the comparisons that are possible now."""
        if not self._left:
            return
        places = self._places()
        ready = [c for c in self._left if c.a.name in places and c.b.name in places]
        self._left = [c for c in self._left if c not in ready]
        self._queue += ready

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Collect a result, and start the next comparison."""
        if self._running and ray.wait([self._running[0]], timeout=0)[0]:
            self._collect(*self._running)
            self._running = None
        if self._queue and not self._running:
            comparison = self._queue.pop(0)
            self._running = self._start(comparison), comparison.name

    def _places(self) -> dict[str, ModelLocation]:
        """The places of the base models (no adapter), and of the trials that are done and not
        left out."""
        bases = {name: ModelLocation() for name in self._context.study.base_models}
        records = self._context.records()
        places = bases | self._context.trial_places(records)
        left_out = self._context.left_out(records)
        return {name: place for name, place in places.items() if name not in left_out}

    def _start(self, comparison: PlannedComparison) -> Any:
        places = self._places()
        names = (comparison.a.name, comparison.b.name)
        needing = any(needs_base(path) for name in names for path in places[name].adapters)
        base = self._context.base_directory(comparison.a.base_model) if needing else None
        pairs = (Pair(comparison.name, *names),)
        job = Job({name: places[name] for name in names}, pairs, base)
        return _measure.options(num_cpus=0).remote(job, self._context.study.densities)

    def _collect(self, reference: Any, name: str) -> None:
        try:
            self._rows.extend(ray.get(reference))
        except RayError as error:
            self._say(f"{name} was not measured early: {str(error).strip().splitlines()[-1]}")
            return
        for table in _TABLES:
            write_table(self._context.store, table, getattr(self._rows, table))


def _is_of_adapters(comparison: PlannedComparison) -> bool:
    """Whether both sides are adapters or base models, which are read in seconds."""
    sides = (comparison.a, comparison.b)
    return all(side.lineage or side.name == side.base_model for side in sides)


@ray.remote(max_retries=0)
def _measure(job: Job, densities: tuple[float, ...]) -> Tables:
    use_own_gpu()
    return reduce_pairs(job, densities, InProcess(), shards=1)
