"""One merge of a study from its models to its record; no Ray.

Model: an attempt merges the models over the base model into scratch space, on the GPU of its
process where there is one and the work is large, measures the task vector, and evaluates the merged
model as trials are evaluated, but as it is saved: in its own dtype, not quantised. One that is
written as an adapter is evaluated on the base model as trials hold it. A merge with a
record of another evaluation is only evaluated again. `raylab.train.attempts` keeps the log, stores
the checkpoint, and writes the record last.
Invariant: the weights are a function of the merge's identity and its trials' adapters. A merge
that fails leaves an attempt with its cause, and no record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from raylab.merge.merge import merge_models
from raylab.merge.named_models import tokenizer_folder
from raylab.merge.record import summary_lines
from raylab.plan.merges import PlannedMerge
from raylab.plan.trials import Trial
from raylab.reduce.passes import task_vector_norms
from raylab.spec.data.rows import Row
from raylab.spec.study import Study
from raylab.store.attempt_state import write_progress
from raylab.store.filesystem import Store
from raylab.store.phase import MEASURING, STORING, Tell
from raylab.store.records import ADAPTER, Record, trial_key
from raylab.store.references import MERGED, ModelLocation, location_of
from raylab.train.attempts import UNPLACED, Made, Placement, complete, recorded_attempt
from raylab.train.base_checkpoint import StudyAdapters
from raylab.train.evaluate.asked_model import evaluate_asked
from raylab.train.evaluate.evaluate import ModelEvaluation
from raylab.train.progress import AttemptProgress
from raylab.weights.unreadable import unreadable

MOST_BYTES = 1 << 30
"""Of the tensors in one file, which the store holds in memory as a whole."""


@dataclass(frozen=True)
class MergeTask:
    """Everything that one merge needs; `finished`: where the finished models that it names lie on
    this node."""

    study: Study
    merge: PlannedMerge
    trials: Mapping[str, Trial]
    finished: Mapping[str, Path]
    rows: Mapping[str, Sequence[Row]]
    base: Path
    out: str

    @cached_property
    def store(self) -> Store:
        """The store of the study."""
        return Store(self.out)

    def location(self, model: str) -> ModelLocation:
        """Where one of its models lies."""
        if model in self.finished:
            return location_of(self.finished[model], self.base)
        adapters = StudyAdapters(self.trials, self.base, self.store)
        parents = adapters.lineage(self.trials[model])
        return ModelLocation(adapters=(*parents, adapters.directory(model)), base=self.base)

    @property
    def tokenizer(self) -> Path | None:
        """The folder of the tokenizer of the model that the merge names for it."""
        asked = self.merge.request.tokenizer
        if asked is None or asked.source not in self.finished:
            return None
        return tokenizer_folder(asked.source, self.location(asked.source), self.base)


def run_merge(task: MergeTask, placement: Placement = UNPLACED) -> Record:
    """Make `task.merge` to its record. Every error is kept as an attempt and raised."""
    merge, store = task.merge, task.store
    tell = AttemptProgress(lambda told: write_progress(store, merge.folder, told)).tell
    with recorded_attempt(store, merge.folder, placement):
        return complete(
            merge,
            task.study,
            task.rows,
            store,
            data={"data": merge.row["data"]},
            make=lambda directory: _merge(task, directory / merge.name, tell),
            evaluate_saved=lambda directory: _evaluate(
                task, store.local(trial_key(merge.folder, _part(merge)), directory), tell
            ),
        )


def _merge(task: MergeTask, directory: Path, tell: Tell) -> Made:
    """Merge into `directory`: the checkpoint, its norms and its evaluation."""
    merge = task.merge
    made = merge_models(
        merge.request,
        [task.location(item.model) for item in merge.request.inputs],
        task.base,
        directory,
        most_bytes=MOST_BYTES,
        threads=task.study.resources.cpus,
        tell=tell,
        tokenizer=task.tokenizer,
    )
    print("\n".join(summary_lines(made)))
    tell(MEASURING)
    norms = _norms(task, location_of(directory, task.base))
    evaluation = _evaluate(task, directory, tell)
    tell(STORING)
    return Made({_part(merge): directory}, norms, evaluation)


def _norms(task: MergeTask, place: ModelLocation) -> dict[str, float | None]:
    """L1 and L2 of the task vector; None where rows follow tokens into other shapes than those of
    the base model, from which there is no difference."""
    if task.merge.request.tokenizer and unreadable(task.study, task.base, {"": place}):
        return {"l1": None, "l2": None}
    norms = task_vector_norms(place)
    return {"l1": norms.l1, "l2": norms.l2}


def _part(merge: PlannedMerge) -> str:
    """The name of its weights in its folder."""
    return ADAPTER if merge.is_adapter else MERGED


def _evaluate(task: MergeTask, directory: Path, tell: Tell) -> ModelEvaluation:
    """Evaluate the merged model at `directory`."""
    place = location_of(directory, task.base)
    return evaluate_asked(task.merge, place, task.base, task.study, task.rows, tell)
