"""How long the training of a study still takes: estimates, corrected by what trials took.

Model: each trial that is to run has an estimate: that of `raylab.plan.durations` where finished
trials give seconds, else its operations at the rate of the machine, else its work in SFT steps.
All estimates are multiplied by one ratio: the seconds that the trials done since took over what
was estimated for them; before the first is done, the same of the running trials, by the steps that
they report. The rest is then scheduled as in `raylab.plan.schedule`, with the running trials first.
Invariant: there is no number where neither an estimate in seconds nor a trial at work gives one.
Merges, the reduction and the report are not counted: nothing estimates them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.plan.durations import estimate_durations
from raylab.plan.resources import EFFICIENCY, PEAK_FLOPS, trial_operations
from raylab.plan.schedule import simulate
from raylab.plan.this_machine import matmul_rate, trial_rate
from raylab.plan.trials import Inputs, Trial
from raylab.spec.study import Study
from raylab.store.phase import TRAINING
from raylab.store.records import Record

Row = Mapping[str, Any]


@dataclass(frozen=True)
class TimeLeft:
    """Estimates of the trials that are to run, by name, and the parent of each.

    in_seconds: whether the estimates are seconds, else a unit of work. slots: how many trials run
    at once; without it, as many as are seen running.
    """

    estimates: Mapping[str, float]
    parents: Mapping[str, str | None]
    in_seconds: bool
    slots: Callable[[], int] | None = None

    def seconds(self, rows: Sequence[Row], now: float) -> float | None:
        """The seconds until the last trial ends; None where they are not known.

        rows: of trials as in `raylab.report.terminal.live_table`, with `begun`, when the attempt of
        a running trial began; `now` in seconds since 1970, as `begun`.
        """
        known = [row for row in rows if self.estimates.get(row["name"])]
        ratio = self._ratio(known, now)
        if ratio is None:
            return None
        open_rows = {row["name"]: row for row in known if row["status"] in ("running", "pending")}
        running = [name for name, row in open_rows.items() if row["status"] == "running"]
        durations = {
            name: _rest(row, ratio * self.estimates[name], now) for name, row in open_rows.items()
        }
        slots = max(1, len(running), self.slots() if self.slots else 0)
        parents = {name: self.parents[name] for name in self.parents if name in open_rows}
        found = simulate(parents, durations, slots, running).makespan
        return found or None

    def _ratio(self, rows: Sequence[Row], now: float) -> float | None:
        """Seconds that trials took over what was estimated for them."""
        took = {
            row["name"]: row["seconds"]
            for row in rows
            if row["status"] == "done" and row.get("seconds")
        }
        if not took:
            took = {row["name"]: whole for row in rows if (whole := _projected(row, now))}
        if not took:
            return 1.0 if self.in_seconds else None
        return sum(took.values()) / sum(self.estimates[name] for name in took)


def _projected(row: Row, now: float) -> float | None:
    """The seconds that a running trial takes up to the end of its training, by the steps that it
    reports; so far, where that is behind it; None where it has reported none."""
    if row["status"] != "running" or not row.get("begun"):
        return None
    step, steps, left = row.get("step"), row.get("steps"), row.get("seconds_left")
    if str(row.get("phase")).startswith(TRAINING) and left:
        return _behind(row, now) + float(left)
    return now - float(row["begun"]) if step and step == steps else None


def _rest(row: Row, whole: float, now: float) -> float:
    """The seconds that a trial of `whole` seconds still takes."""
    if row["status"] != "running":
        return whole
    return max(whole - _behind(row, now), row.get("seconds_left") or 0.0, 0.0)


def _behind(row: Row, now: float) -> float:
    """The seconds that what a running trial has done takes; it may have gone on from a checkpoint,
    and then its steps take longer than it runs."""
    elapsed = now - (row.get("begun") or now)
    step, steps, left = row.get("step"), row.get("steps"), row.get("seconds_left")
    is_training = str(row.get("phase")).startswith(TRAINING)
    if not (is_training and step and steps and left) or step >= steps:
        return elapsed
    return max(elapsed, step * left / (steps - step))


def time_left(
    study: Study,
    inputs: Inputs,
    trials: Sequence[Trial],
    records: Mapping[str, Record],
    slots: Callable[[], int] | None = None,
    rate: float | None = None,
) -> TimeLeft:
    """The estimates of `trials`, which are to run. records: of the store, by trial id.

    rate: the flop/s that a trial reaches where it runs, if known.
    """
    parents = {trial.name: trial.parent for trial in trials}
    durations = estimate_durations(study, inputs.rows, trials, records)
    if durations.unit == "seconds":
        return TimeLeft(durations.by_name, parents, True, slots)
    operations = trial_operations(study, inputs, trials) if rate else {}
    seconds = {name: count / rate for name, count in operations.items() if count and rate}
    if len(seconds) == len(trials):
        return TimeLeft(seconds, parents, True, slots)
    return TimeLeft(durations.by_name, parents, False, slots)


def assumed_rate(study: Study, *, on_gpus: bool) -> float | None:
    """The flop/s of a trial: of a card as `raylab plan` assumes it, or of the cores here; None
    where other work keeps them busy, since a measurement would say little then."""
    if on_gpus:
        return PEAK_FLOPS * EFFICIENCY * study.resources.gpus
    is_busy = os.getloadavg()[0] > len(os.sched_getaffinity(0))
    return None if is_busy else trial_rate(study, matmul_rate())
