"""Comparisons measured while trials still train: each as soon as both of its sides exist.

Model: whenever a trial ends, the comparisons of adapters that have become possible are queued;
one after another, a Ray task that takes no slot from a trial measures norms and thresholds in one
thread, and the tables hold what is known so far.
Invariant: only a foretaste: the reduction that follows measures all comparisons anew, with
everything else, and writes the tables whole. A task that fails costs nothing but its foretaste,
and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from raylab.cluster.study_context import Prepared
from raylab.number_format import number
from raylab.plan.comparisons import Model, PlannedComparison, plan_comparisons
from raylab.reduce.passes import InProcess, Job, Tables, reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.store.records import read_records
from raylab.store.references import ModelLocation
from raylab.store.tables import write_table

_TABLES = ("norms", "densities")


class Early(tune.Callback):
    """Queues, starts and gathers the comparisons of a study that trains."""

    def __init__(self, prepared: Prepared, say: Callable[[str], None]) -> None:
        """Nothing is measured yet."""
        self._prepared, self._say = prepared, say
        self._left = [c for c in plan_comparisons(prepared.study, prepared.models) if _is_light(c)]
        self._queue: list[PlannedComparison] = []
        self._flying: tuple[Any, str] | None = None
        self._rows = Tables()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended: see what can be compared now."""
        if not self._left:
            return
        places = self._places()
        ready = [c for c in self._left if c.a.name in places and c.b.name in places]
        self._left = [c for c in self._left if c not in ready]
        self._queue += ready

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Gather what is measured, and start the next."""
        if self._flying and ray.wait([self._flying[0]], timeout=0)[0]:
            self._gather(*self._flying)
            self._flying = None
        if self._queue and not self._flying:
            comparison = self._queue.pop(0)
            self._flying = self._start(comparison), comparison.name

    def _places(self) -> dict[str, ModelLocation]:
        """Where the base models, which have no adapter, and the trials lie that are done and not
        left out."""
        bases = {name: ModelLocation() for name in self._prepared.study.base_models}
        records, _ = read_records(self._prepared.store)
        places = bases | self._prepared.trial_places(records)
        left_out = self._prepared.left_out(records)
        return {name: place for name, place in places.items() if name not in left_out}

    def _start(self, comparison: PlannedComparison) -> Any:
        places = self._places()
        names = (comparison.a.name, comparison.b.name)
        job = Job({name: places[name] for name in names}, (Pair(comparison.name, *names),))
        return _measure.options(num_cpus=0).remote(job, self._prepared.study.densities)

    def _gather(self, reference: Any, name: str) -> None:
        try:
            self._rows.extend(ray.get(reference))
        except RayError as error:
            self._say(f"{name} was not measured early: {str(error).strip().splitlines()[-1]}")
            return
        whole = next(r for r in reversed(self._rows.norms) if r["level"] == "all")
        self._say(f"{name}  L1 {number(whole['l1'])}  L2 {number(whole['l2'])}")
        for table in _TABLES:
            write_table(self._prepared.store, table, getattr(self._rows, table))


def _is_light(comparison: PlannedComparison) -> bool:
    """Whether it is of adapters alone, which are read in seconds."""
    return all(side.lineage or _is_base(side) for side in (comparison.a, comparison.b))


def _is_base(side: Model) -> bool:
    return side.name == side.base_model


@ray.remote(max_retries=0)
def _measure(job: Job, densities: tuple[float, ...]) -> Tables:
    return reduce_pairs(job, densities, InProcess(), shards=1)
