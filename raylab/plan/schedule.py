"""A simulation of the schedule: when each trial would start on a given number of GPUs.

Model: list scheduling. Whenever a slot is free, the ready trial with the longest critical path
starts: its own duration and that of the longest chain of descendants. Trials of the study's first
pair come before all others, so that a comparison is there early. Ties are broken by the order of
the plan. A child is ready when its parent ends. `raylab.cluster.dag` uses the same
functions; but Tune chooses the next trial when the last one has started, not when a slot is free,
so a child that becomes ready in between may start one trial later than here.
Invariant: every trial is scheduled once, after its parent, and has its slot for itself; no slot is
idle while a trial is ready. No schedule on these slots ends before `bound`.

Assumptions: all GPUs are equal, trials that share a GPU do not slow each other down, and there are
enough CPUs. Merges follow the last trial, and are not counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from heapq import heappop, heappush
from typing import Any

from raylab.errors import InputError
from raylab.plan.cache import PlannedTrial
from raylab.plan.comparisons import first_pair, plan_comparisons, plan_models
from raylab.plan.durations import estimate_durations
from raylab.plan.stored import distinct
from raylab.plan.trials import Inputs, Trial
from raylab.spec.study import Study
from raylab.store.records import Record


@dataclass(frozen=True)
class ScheduledTrial:
    """The slot, start and end of one trial, in the unit of the durations."""

    name: str
    slot: int
    start: float
    end: float


@dataclass(frozen=True)
class Schedule:
    """All trials on `slots`, in the order in which they start."""

    slots: int
    trials: tuple[ScheduledTrial, ...]
    critical_path: float
    """The duration of the longest chain of parents and children."""

    @property
    def work(self) -> float:
        """The sum of the durations of all trials."""
        return sum(item.end - item.start for item in self.trials)

    @property
    def makespan(self) -> float:
        """When the last trial ends."""
        return max((item.end for item in self.trials), default=0.0)

    @property
    def bound(self) -> float:
        """A lower bound of the makespan of every schedule."""
        return max(self.work / self.slots, self.critical_path)

    @property
    def idle(self) -> float:
        """The share of the slots' time before the end in which they are idle."""
        available = self.slots * self.makespan
        return max(0.0, 1 - self.work / available) if available else 0.0


def schedule_study(
    study: Study,
    inputs: Inputs,
    states: Sequence[PlannedTrial],
    records: Mapping[str, Record],
    gpus: int,
) -> dict[str, Any]:
    """The schedule of the trials that are not cached, as JSON. Raises InputError."""
    missing = distinct(item.trial for item in states if item.state != "cached")
    trials = [item for item in missing if isinstance(item, Trial)]
    durations = estimate_durations(study, inputs.rows, trials, records)
    slots = count_slots(gpus, study.resources.gpus)
    planned = [item.trial for item in states if isinstance(item.trial, Trial)]
    found = simulate(
        {trial.name: trial.parent for trial in trials},
        durations.by_name,
        slots,
        first=first_pair(plan_comparisons(study, plan_models(study, planned))),
    )
    hours = found.work * study.resources.gpus / 3600
    return {
        "gpus": gpus,
        "slots": slots,
        "unit": durations.unit,
        "measured": durations.measured,
        "work": found.work,
        "makespan": found.makespan,
        "bound": found.bound,
        "idle": found.idle,
        "gpu_hours": hours if durations.unit == "seconds" else None,
        "trials": [asdict(item) for item in found.trials],
    }


def count_slots(gpus: int, gpus_per_trial: float) -> int:
    """How many trials fit `gpus` at once. Raises InputError.

    A trial with a fraction of a GPU never spans two GPUs.
    """
    # As decimals, because 1 / 0.1 must be 10: ten trials of 0.1 share a GPU.
    size = Decimal(str(gpus_per_trial))
    slots = gpus * int(1 / size) if size < 1 else int(gpus / size)
    if not slots:
        raise InputError(
            "no trial fits the GPUs",
            found=f"{gpus}, and {gpus_per_trial:g} for each trial",
            expected="at least as many as `resources.gpus` of the study",
        )
    return slots


def critical_paths(
    parents: Mapping[str, str | None], durations: Mapping[str, float]
) -> dict[str, float]:
    """The longest time from the start of each trial to the end of a descendant.

    parents: the parent of each trial, parents first; a parent that is not a key is done already.
    """
    paths = {name: durations[name] for name in parents}
    for name, parent in reversed(list(parents.items())):
        if parent in paths:
            paths[parent] = max(paths[parent], durations[parent] + paths[name])
    return paths


def highest_priority(
    ready: Iterable[str], paths: Mapping[str, float], first: Collection[str] = ()
) -> str:
    """The trial of `ready`, in the order of the plan, that starts first: one of `first`, if any."""
    return max(ready, key=lambda name: (name in first, paths[name]))


def simulate(
    parents: Mapping[str, str | None],
    durations: Mapping[str, float],
    slots: int,
    running: Collection[str] = (),
    first: Collection[str] = (),
) -> Schedule:
    """The schedule of the trials in `parents` (see `critical_paths`).

    `running` are at work already, and have their slots from the start; `first` go before others.
    """
    paths = critical_paths(parents, durations)
    waiting, unfinished, free = list(parents), set(parents), list(range(slots))
    at_work: list[tuple[float, int, str]] = []
    scheduled: list[ScheduledTrial] = []
    now = 0.0
    while waiting:
        ready = [name for name in waiting if parents[name] not in unfinished]
        # All trials that end now free their slots before the next one starts.
        all_ended = not at_work or at_work[0][0] > now
        if ready and free and all_ended:
            started = [name for name in ready if name in running]
            name, slot = highest_priority(started or ready, paths, first), heappop(free)
            waiting.remove(name)
            scheduled.append(ScheduledTrial(name, slot, now, now + durations[name]))
            heappush(at_work, (scheduled[-1].end, slot, name))
        else:
            now, slot, name = heappop(at_work)
            unfinished.remove(name)
            heappush(free, slot)
    return Schedule(slots, tuple(scheduled), max(paths.values(), default=0.0))
