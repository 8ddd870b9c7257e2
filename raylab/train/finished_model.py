"""One finished model that a merge takes, from its files to the record of what it answers; no Ray.

Model: as for a merge (`raylab.merge.study_merge`), but nothing is made: the record holds answers,
rates and likelihoods alone, and names no weights.
Invariant: a model that cannot be asked leaves an attempt with its cause, and no record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raylab.plan.finished_parents import FinishedParent
from raylab.spec.data.rows import Row
from raylab.spec.study import Study
from raylab.store.attempt_state import write_progress
from raylab.store.filesystem import Store
from raylab.store.records import Record
from raylab.store.references import location_of
from raylab.train.attempts import UNPLACED, Made, Placement, complete, recorded_attempt
from raylab.train.evaluate.asked_model import evaluate_asked
from raylab.train.evaluate.evaluate import ModelEvaluation
from raylab.train.progress import AttemptProgress


@dataclass(frozen=True)
class FinishedTask:
    """Everything that it takes to ask one finished model; directory: where it lies on this node."""

    study: Study
    model: FinishedParent
    directory: Path
    rows: Mapping[str, Sequence[Row]]
    base: Path
    out: str


def ask_finished_model(task: FinishedTask, placement: Placement = UNPLACED) -> Record:
    """Ask `task.model` to its record. Every error is kept as an attempt and raised."""
    model, store = task.model, Store(task.out)
    tell = AttemptProgress(lambda told: write_progress(store, model.folder, told)).tell

    def evaluate() -> ModelEvaluation:
        place = location_of(task.directory, task.base)
        return evaluate_asked(model, place, task.base, task.study, task.rows, tell)

    with recorded_attempt(store, model.folder, placement):
        return complete(
            model,
            task.study,
            task.rows,
            store,
            data={"data": "+".join(model.data)},
            make=lambda _: Made({}, {}, evaluate()),
            evaluate_saved=lambda _: evaluate(),
        )
