"""What of a plan is done already, and what makes the rest new.

Model: a trial is `cached` where the store holds its record, `to run` where nothing stands in
its way, and `blocked` while its parent is not cached. One whose model was asked other questions
is to run as well, but only asked again. A trial that is to run is held against
the record of the same name that differs least, and the fields that differ are named.
Invariant: reads records only; the answer never depends on a clock, a host or a library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raylab.plan.trials import Trial
from raylab.spec.identity import changed_fields, fingerprint
from raylab.spec.study import Study
from raylab.store.records import Record

ASK_AGAIN = "other questions: asked again, not trained"


@dataclass(frozen=True)
class PlannedTrial:
    """A trial, its state (cached, to run, blocked), and why."""

    trial: Trial
    state: str
    why: str


def evaluation_id(study: Study) -> str:
    """Fingerprint of what trained models are asked; it is no part of a trial's identity."""
    return fingerprint(study.evaluation.model_dump(exclude={"every_epochs"}))


def plan_states(
    trials: Sequence[Trial], records: Mapping[str, Record], evaluation: str | None = None
) -> list[PlannedTrial]:
    """The state of every trial, given the records of the store by trial id.

    With `evaluation`, records of another evaluation count as not done yet.
    """
    states: dict[str, PlannedTrial] = {}
    for trial in trials:
        parent = states[trial.parent] if trial.parent else None
        record = records.get(trial.id)
        if record and evaluation and record.evaluation != evaluation:
            states[trial.name] = PlannedTrial(trial, "to run", ASK_AGAIN)
        else:
            states[trial.name] = _state(trial, parent, records)
    return list(states.values())


def _state(
    trial: Trial, parent: PlannedTrial | None, records: Mapping[str, Record]
) -> PlannedTrial:
    if trial.id in records:
        return PlannedTrial(trial, "cached", "")
    why = _why_new(trial, records)
    if parent and parent.state != "cached" and parent.why != ASK_AGAIN:
        return PlannedTrial(trial, "blocked", f"waits for {trial.parent}; {why}")
    return PlannedTrial(trial, "to run", why)


def _why_new(trial: Trial, records: Mapping[str, Record]) -> str:
    changes = [
        list(changed_fields(record.identity, trial.identity))
        for record in records.values()
        if record.name == trial.name
    ]
    if not changes:
        return "new: no trial of this name in the store"
    return "new: " + "; ".join(sorted(changes, key=len)[0])
