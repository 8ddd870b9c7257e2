"""When each trial would start: the schedule that the cluster will follow, without a cluster.

Model: list scheduling. Whenever a slot is free, of the trials that are ready the one with the
longest way below it starts: its own duration and that of the longest chain of descendants. Ties
go in the plan's order; a child is ready the moment its parent ends. `raylab.cluster.dag` chooses
by the same functions; but Tune draws its next trial when the last has started, not when a slot is
free, so a child that is freed in between may start one trial later than here.
Invariant: every trial is placed once, after its parent, on a slot that is its own meanwhile; no
slot is idle while a trial is ready. No schedule on these slots ends before `bound`.

Assumed: every GPU is the same, trials that share one do not slow each other down, and CPUs are
no limit. Merges come after the last trial, and are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from heapq import heappop, heappush
from typing import Any

from raylab.errors import InputError
from raylab.plan.cache import PlannedTrial
from raylab.plan.durations import estimate_durations
from raylab.plan.trials import Inputs, Trial
from raylab.spec.study import Study
from raylab.store.records import Record


@dataclass(frozen=True)
class ScheduledTrial:
    """One trial's slot, start and end."""

    name: str
    slot: int
    start: float
    end: float


@dataclass(frozen=True)
class Schedule:
    """All trials on `slots`, in the order in which they start."""

    slots: int
    placed: tuple[ScheduledTrial, ...]
    critical: float
    """The longest chain of parents and children."""

    @property
    def work(self) -> float:
        """The durations of all trials together."""
        return sum(item.end - item.start for item in self.placed)

    @property
    def makespan(self) -> float:
        """When the last trial ends."""
        return max((item.end for item in self.placed), default=0.0)

    @property
    def bound(self) -> float:
        """No schedule ends before."""
        return max(self.work / self.slots, self.critical)

    @property
    def idle(self) -> float:
        """The share of all slots' time until the end in which they do nothing."""
        room = self.slots * self.makespan
        return max(0.0, 1 - self.work / room) if room else 0.0


def schedule_study(
    study: Study,
    inputs: Inputs,
    states: Sequence[PlannedTrial],
    records: Mapping[str, Record],
    gpus: int,
) -> dict[str, Any]:
    """What `plan` says of the trials that are not cached, on so many GPUs. Raises InputError."""
    missing = [item.trial for item in states if item.state != "cached"]
    trials = [item for item in missing if isinstance(item, Trial)]
    durations = estimate_durations(study, inputs.rows, trials, records)
    slots = count_slots(gpus, study.resources.gpus)
    found = simulate({trial.name: trial.parent for trial in trials}, durations.by_name, slots)
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
        "trials": [asdict(item) for item in found.placed],
    }


def count_slots(gpus: int, each: float) -> int:
    """How many trials of `each` GPUs fit `gpus`; a fraction never spans two. Raises InputError."""
    # As decimals, for 1 / 0.1 has to be 10, and ten trials of 0.1 share a GPU.
    size = Decimal(str(each))
    slots = gpus * int(1 / size) if size < 1 else int(gpus / size)
    if not slots:
        raise InputError(
            "no trial fits the GPUs",
            found=f"{gpus}, and {each:g} for each trial",
            expected="at least as many as `resources.gpus` of the study",
        )
    return slots


def critical_paths(
    parents: Mapping[str, str | None], durations: Mapping[str, float]
) -> dict[str, float]:
    """The longest way from the start of each trial to the end of a descendant.

    `parents` comes parents first; a parent that is no key of it is done already.
    """
    ways = {name: durations[name] for name in parents}
    for name, parent in reversed(list(parents.items())):
        if parent in ways:
            ways[parent] = max(ways[parent], durations[parent] + ways[name])
    return ways


def highest_priority(ready: Iterable[str], ways: Mapping[str, float]) -> str:
    """Which of `ready`, in the plan's order, starts first."""
    return max(ready, key=ways.__getitem__)


def simulate(
    parents: Mapping[str, str | None], durations: Mapping[str, float], slots: int
) -> Schedule:
    """The schedule of the trials in `parents`, which comes parents first."""
    ways = critical_paths(parents, durations)
    waiting, unfinished, free = list(parents), set(parents), list(range(slots))
    running: list[tuple[float, int, str]] = []
    placed: list[ScheduledTrial] = []
    now = 0.0
    while waiting:
        ready = [name for name in waiting if parents[name] not in unfinished]
        all_ended = not running or running[0][0] > now
        if ready and free and all_ended:
            name, slot = highest_priority(ready, ways), heappop(free)
            waiting.remove(name)
            placed.append(ScheduledTrial(name, slot, now, now + durations[name]))
            heappush(running, (placed[-1].end, slot, name))
        else:
            now, slot, name = heappop(running)
            unfinished.remove(name)
            heappush(free, slot)
    return Schedule(slots, tuple(placed), max(ways.values(), default=0.0))
