"""What of a plan is done already, and what makes the rest new.

Model: a trial is `cached` where the store holds its record, `to run` where nothing stands in
its way, and `blocked` while its parent is not cached. One whose model was asked other questions
is to run as well, but only asked again. A trial that is to run is held against
the record of the same name that differs least, and the fields that differ are named. A merge is
as a trial, and its models are as its parents.
Invariant: reads records only; the answer never depends on a clock, a host or a library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raylab.plan.merges import Planned, PlannedMerge, dependencies_of
from raylab.spec.data.held_out import held_out_answers
from raylab.spec.data.rows import Row, rows_fingerprint
from raylab.spec.evaluation import JUDGED_LATER
from raylab.spec.identity import changed_fields, fingerprint
from raylab.spec.study import Study
from raylab.store.records import Record

EVALUATE_AGAIN = "other questions: asked again, not trained"
EVALUATE_MERGE_AGAIN = "other questions: asked again, not merged"


@dataclass(frozen=True)
class PlannedTrial:
    """A trial or merge, its state (cached, to run, blocked), and why."""

    trial: Planned
    state: str
    why: str


def evaluation_id(study: Study, rows: Mapping[str, Sequence[Row]]) -> str:
    """Fingerprint of what trained models are asked; it is no part of a trial's identity.

    A model is asked of the answers of all data sets, so their held-out rows are part of it.
    """
    asked = study.evaluation.model_dump(exclude=set(JUDGED_LATER))
    answers = held_out_answers(study, rows)
    held_out = {name: rows_fingerprint(found) for name, found in answers.items()}
    return fingerprint({**asked, "held_out": held_out})


def plan_states(
    trials: Sequence[Planned], records: Mapping[str, Record], evaluation: str | None = None
) -> list[PlannedTrial]:
    """The state of every trial and merge, given the records of the store by trial id.

    With `evaluation`, records of another evaluation count as not done yet.
    """
    states: dict[str, PlannedTrial] = {}
    for trial in trials:
        needs = [states[name] for name in dependencies_of(trial)]
        record = records.get(trial.id)
        if record and evaluation and record.evaluation != evaluation:
            states[trial.name] = PlannedTrial(trial, "to run", _ask_again(trial))
        else:
            states[trial.name] = _state(trial, needs, records)
    return list(states.values())


def _ask_again(trial: Planned) -> str:
    return EVALUATE_MERGE_AGAIN if isinstance(trial, PlannedMerge) else EVALUATE_AGAIN


def _state(
    trial: Planned, needs: Sequence[PlannedTrial], records: Mapping[str, Record]
) -> PlannedTrial:
    if trial.id in records:
        return PlannedTrial(trial, "cached", "")
    why = _why_new(trial, records)
    missing = [n.trial.name for n in needs if n.state != "cached" and n.why != EVALUATE_AGAIN]
    if missing:
        return PlannedTrial(trial, "blocked", f"waits for {' and '.join(missing)}; {why}")
    return PlannedTrial(trial, "to run", why)


def _why_new(trial: Planned, records: Mapping[str, Record]) -> str:
    changes = [
        list(changed_fields(record.identity, trial.identity))
        for record in records.values()
        if record.name == trial.name
    ]
    if not changes:
        kind = "merge" if isinstance(trial, PlannedMerge) else "trial"
        return f"new: no {kind} of this name in the store"
    return "new: " + "; ".join(sorted(changes, key=len)[0])
