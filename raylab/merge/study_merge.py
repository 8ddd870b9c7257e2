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
from typing import Any

from peft import PeftModel

from raylab.merge.merge import merge_models
from raylab.merge.record import summary_lines
from raylab.plan.asked import data_asked, merge_prompts
from raylab.plan.merges import PlannedMerge
from raylab.plan.trials import Trial
from raylab.reduce.passes import task_vector_norms
from raylab.spec.data.held_out import held_out_prompts
from raylab.spec.data.rows import Row
from raylab.spec.models import check_remote_code
from raylab.spec.study import Study
from raylab.store.attempt_state import write_progress
from raylab.store.filesystem import Store
from raylab.store.phase import MEASURING, MODEL, STORING, Tell
from raylab.store.records import ADAPTER, Record, trial_key
from raylab.store.references import MERGED, ModelLocation, location_of
from raylab.train.attempts import UNPLACED, Made, Placement, complete, recorded_attempt
from raylab.train.base_checkpoint import StudyAdapters
from raylab.train.chat import teach_stopping
from raylab.train.evaluate.evaluate import ModelEvaluation, evaluate_model
from raylab.train.model import device_of_this_process, load_base, load_tokenizer
from raylab.train.progress import AttemptProgress
from raylab.weights.memory_names import loading_class

MOST_BYTES = 1 << 30
"""Of the tensors in one file, which the store holds in memory as a whole."""


@dataclass(frozen=True)
class MergeTask:
    """Everything that one merge needs; `finished`: where the finished models lie on this node."""

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
    )
    print("\n".join(summary_lines(made)))
    tell(MEASURING)
    norms = task_vector_norms(location_of(directory, task.base))
    evaluation = _evaluate(task, directory, tell)
    tell(STORING)
    return Made({_part(merge): directory}, {"l1": norms.l1, "l2": norms.l2}, evaluation)


def _part(merge: PlannedMerge) -> str:
    """The name of its weights in its folder."""
    return ADAPTER if merge.is_adapter else MERGED


def _evaluate(task: MergeTask, directory: Path, tell: Tell) -> ModelEvaluation:
    """Evaluate the merged model at `directory`."""
    tell(MODEL)
    study, merge = task.study, task.merge
    source = study.base_models[merge.base_model]
    data = data_asked(merge, task.rows)
    questions = held_out_prompts(task.rows[data], study.held_out, study.evaluation.prompts)
    if merge.is_adapter:
        trusted = source.trust_remote_code
        model = load_base(task.base, study.quantization, trust_remote_code=trusted)
    else:
        model = _load_whole(directory, source.trust_remote_code)
    place = task.base if merge.is_adapter else directory
    tokenizer = load_tokenizer(place, source, study.template_date)
    teach_stopping(model, tokenizer)
    if merge.is_adapter:
        model = PeftModel.from_pretrained(model, directory)
    seed = merge.seed.init if merge.seed else 0
    beside = merge_prompts(study, task.rows).beside(merge)
    return evaluate_model(
        model, tokenizer, study, task.rows, questions, seed, beside=beside, tell=tell
    )


def _load_whole(directory: Path, trusted: bool) -> Any:
    """The merged model at `directory`, as it is saved."""
    check_remote_code(directory, trusted)
    return loading_class(directory).from_pretrained(
        directory,
        dtype="auto",
        device_map={"": device_of_this_process()},
        trust_remote_code=trusted,
    )
