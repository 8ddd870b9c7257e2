"""One merge from its models to its record; no Ray.

Model: merge the models over the base model into scratch space, measure the task vector, upload
the checkpoint, ask it what trials are asked, seal the folder. It is asked as it is saved, in its
own dtype, not quantised. A merge that is sealed already, but was asked other questions, is asked
again without being merged.
Invariant: the weights are a function of the merge's identity and its trials' adapters. The record
is written last; a merge that fails leaves an attempt with its cause, and no record.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from raylab.merge.merge import merge_models
from raylab.merge.record import summary_lines
from raylab.plan.cache import evaluation_id
from raylab.plan.merges import PlannedMerge
from raylab.plan.trials import Trial
from raylab.reduce.passes import task_vector_norms
from raylab.spec.data.held_out import questions_of
from raylab.spec.data.rows import Row
from raylab.spec.models import check_code
from raylab.spec.study import Study
from raylab.store.filesystem import Store, study_scratch
from raylab.store.records import (
    PROGRESS,
    Record,
    finite_or_none,
    read_record,
    trial_key,
    write_json,
    write_record,
)
from raylab.store.references import MERGED, Place, place_of
from raylab.train.attempts import attempted, peak_memory, versions
from raylab.train.base_checkpoint import Family
from raylab.train.chat import teach_stopping
from raylab.train.evaluate.evaluate import Interview, interview
from raylab.train.evaluate.samples import write_samples
from raylab.train.model import device_of_this_process, load_tokenizer

STEPS = ("merge", "measure", "upload", "ask")
MOST_BYTES = 1 << 30
"""Of tensors in one file, which the store holds in memory as a whole."""


@dataclass(frozen=True)
class MergeWork:
    """What one merge needs to know. `finished` is where the finished models lie on this node."""

    study: Study
    merge: PlannedMerge
    trials: Mapping[str, Trial]
    finished: Mapping[str, Path]
    rows: Mapping[str, Sequence[Row]]
    base: Path
    out: str

    @property
    def family(self) -> Family:
        """Where its trials' adapters are found."""
        trust = self.study.base_models[self.merge.base_model].trust_remote_code
        return Family(self.trials, self.base, Store(self.out), trust)

    def place(self, model: str) -> Place:
        """Where one of its models lies."""
        if model in self.finished:
            return place_of(self.finished[model], self.base)
        trial, family = self.trials[model], self.family
        lineage = [self.trials[name] for name in (*trial.lineage, model)]
        return Place(adapters=tuple(map(family.adapter, lineage)), base=self.base)


def run_merge(work: MergeWork, gpus: Sequence[str] = ()) -> Record:
    """Make `work.merge` to its record; whatever goes wrong is kept as an attempt and raised."""
    store, folder = Store(work.out), work.merge.folder
    scratch = study_scratch(store)
    with attempted(store, folder, gpus=gpus):
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            if known := read_record(store, folder):
                return _ask_again(work, store, known, Path(directory))
            return _make(work, store, Path(directory) / work.merge.name)


def _make(work: MergeWork, store: Store, directory: Path) -> Record:
    merge, started = work.merge, time.monotonic()
    _tell(store, merge, "merge")
    places = [work.place(item.model) for item in merge.request.inputs]
    made = merge_models(
        merge.request,
        places,
        work.base,
        directory,
        most_bytes=MOST_BYTES,
        threads=work.study.resources.cpus,
    )
    print("\n".join(summary_lines(made)))
    _tell(store, merge, "measure")
    whole = task_vector_norms(Place(checkpoint=directory, base=work.base))
    _tell(store, merge, "upload")
    key = trial_key(merge.folder, MERGED)
    store.delete(key)  # A merge that lost its record may have left files that this one has not.
    store.upload(directory, key)
    asked = _ask(work, store, directory)
    metrics = {"l1": whole.l1, "l2": whole.l2, **asked, "seconds": time.monotonic() - started}
    return write_record(store, merge.folder, _record(work, metrics))


def _ask_again(work: MergeWork, store: Store, known: Record, scratch: Path) -> Record:
    """Put the study's questions to a model that was merged before."""
    folder = work.merge.folder
    asked = _ask(work, store, store.local(trial_key(folder, MERGED), scratch))
    evaluation = evaluation_id(work.study, work.rows)
    changed = {"evaluation": evaluation, "metrics": {**known.metrics, **asked}}
    return write_record(store, folder, known.model_copy(update=changed))


def _record(work: MergeWork, metrics: Mapping[str, Any]) -> Record:
    merge = work.merge
    return Record(
        name=merge.name,
        id=merge.id,
        identity=dict(merge.identity),
        data={"data": merge.row["data"]},
        evaluation=evaluation_id(work.study, work.rows),
        versions=versions(),
        metrics={
            **{key: finite_or_none(value) for key, value in metrics.items()},
            "peak_memory_bytes": peak_memory(),
        },
    )


def _tell(store: Store, merge: PlannedMerge, step: str) -> None:
    """Leave the progress in the store, for `raylab status`."""
    progress = {"step": STEPS.index(step) + 1, "steps": len(STEPS), "time": time.time()}
    write_json(store, trial_key(merge.folder, PROGRESS), progress)


def _ask(work: MergeWork, store: Store, directory: Path) -> Mapping[str, Any]:
    """The rates of the answers of the model at `directory`, which are kept."""
    _tell(store, work.merge, "ask")
    said = _interview(work, directory)
    write_samples(store, work.merge.folder, said.rows)
    return said.metrics


def _interview(work: MergeWork, directory: Path) -> Interview:
    asked, place = work.study.evaluation, work.study.base_models[work.merge.base_model]
    trust = place.trust_remote_code
    check_code(directory, trust)
    # What its first model was trained on; finished models say what they please of their data.
    known = next((name for name in work.merge.data if name in work.rows), next(iter(work.rows)))
    questions = questions_of(work.rows[known], work.study.held_out, asked.prompts)
    torch.set_num_threads(work.study.resources.cpus)
    model = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype="auto",
        device_map={"": device_of_this_process()},
        trust_remote_code=trust,
    )
    tokenizer = load_tokenizer(directory, place)
    teach_stopping(model, tokenizer)
    return interview(model, tokenizer, work.study, work.rows, questions, work.merge.seed or 0)
