"""One trial from start to record; no Ray.

Model: find the start, build the trainer, train (from the last checkpoint, where there is one),
save the adapter, ask the model, measure its task vector, seal the folder. A trial whose adapter
is sealed already, but which was asked other questions, is asked again without being trained.
An attempt that ran out of memory is followed by one with half the micro-batch, and twice the
batches added up, until it is 1.
Invariant: the adapter's bytes are a function of the trial's identity, the micro-batch, the
machine and the number of threads, whether the process is fresh or has trained before, and
however often the training was ended and went on. The record is written last; a trial that fails
leaves an attempt with its cause, and no record.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import set_seed

from raylab.errors import NonFiniteError, StoreError
from raylab.plan.cache import evaluation_id
from raylab.plan.micro_batches import can_shrink, micro_batch, with_micro_batch
from raylab.plan.trials import Trial
from raylab.reduce.passes import task_vector_norms
from raylab.spec.data.rows import Row
from raylab.spec.study import Study
from raylab.store.attempt_state import Running, is_to_stop, stuck_file
from raylab.store.filesystem import Store, study_scratch
from raylab.store.records import (
    ADAPTER,
    PROGRESS,
    Record,
    finite_or_none,
    read_attempts,
    read_record,
    trial_key,
    write_json,
    write_record,
)
from raylab.train.attempts import Stopped, attempted, peak_memory, versions
from raylab.train.attempts import quiet_libraries as quiet_libraries
from raylab.train.base_checkpoint import Family, start_of
from raylab.train.chat import teach_stopping
from raylab.train.dataset_cache import prepared_of
from raylab.train.evaluate.evaluate import Interview, interview
from raylab.train.evaluate.samples import write_samples
from raylab.train.examples import Examples, examples_of
from raylab.train.methods import Setting, build_trainer
from raylab.train.model import attach_frozen, free_memory, load_base, load_tokenizer, share_gpu
from raylab.train.progress import Listener, Progress
from raylab.train.resume import Checkpoints, Saver
from raylab.train.save_artifacts import Fitted, save_adapter, seal
from raylab.train.trajectory import PathRecorder
from raylab.train.watchdog import Watch
from raylab.weights.views import Place

_HASTE = 1.0
"""Seconds of patience with a store for what can be missed."""

_log = logging.getLogger("raylab.train")


@dataclass(frozen=True)
class Work:
    """What one trial needs to know; the same for all trials of a study but `trial`."""

    study: Study
    trial: Trial
    trials: Mapping[str, Trial]
    rows: Mapping[str, Sequence[Row]]
    base: Path
    out: str


@dataclass(frozen=True)
class Slot:
    """Where a trial is trained: what its attempts remember of their place."""

    gpus: tuple[str, ...] = ()
    node_id: str = ""


def run_trial(work: Work, listener: Listener, slot: Slot = Slot()) -> Record:
    """Train `work.trial` to its record, by as many attempts as memory takes.

    Whatever goes wrong is kept as an attempt and raised; so is `Stopped`, which is no failure.
    """
    while True:
        try:
            return _attempt(work, listener, slot)
        except Exception:
            last = read_attempts(Store(work.out), work.trial.folder)[-1]
            if last.final:
                raise
        # Outside of the handler, whose traceback would hold what is to be freed.
        free_memory()


def _attempt(work: Work, listener: Listener, slot: Slot) -> Record:
    store, folder, training = Store(work.out), work.trial.folder, work.trial.variant.training
    attempts = read_attempts(store, folder)
    with attempted(
        store,
        folder,
        gpus=slot.gpus,
        node_id=slot.node_id,
        is_final=lambda cause: cause != "oom" or not can_shrink(training, attempts),
    ) as running:
        size = micro_batch(training, attempts)
        return _train(work, size, store, _storing(store, folder, listener), running)


def _storing(store: Store, folder: str, listener: Listener) -> Listener:
    """A listener that also leaves the progress in the store, for `raylab status`.

    Training neither ends nor waits for long because that fails.
    """
    hasty = store.waiting(_HASTE)

    def tell(progress: Mapping[str, Any]) -> None:
        timed = {key: finite_or_none(value) for key, value in progress.items()}
        try:
            write_json(hasty, trial_key(folder, PROGRESS), {**timed, "time": time.time()})
        except StoreError as error:
            _log.warning("the progress was not kept: %s", error)
        listener(progress)

    return tell


def _train(
    work: Work, micro_batch: int, store: Store, listener: Listener, running: Running
) -> Record:
    study, trial = work.study, work.trial
    started = time.monotonic()
    torch.set_num_threads(study.resources.cpus)
    share_gpu(study.resources.gpus)
    trust = study.base_models[trial.base_model].trust_remote_code
    family = Family(work.trials, work.base, store, trust)
    scratch = study_scratch(store)
    scratch.mkdir(parents=True, exist_ok=True)
    if known := read_record(store, trial.folder):
        return _ask_again(work, family, store, known)
    checkpoints = Checkpoints(store, trial.folder, trial.id, micro_batch)
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        result = _fit(work, family, Path(directory), listener, checkpoints)
        metrics = {**result.metrics, **_task_vector(trial, family, result.adapter)}
        metrics["micro_batch"] = micro_batch
        metrics["first_step_seconds"] = result.first_step - running.started
        metrics["seconds"] = time.monotonic() - started
        metrics["peak_memory_bytes"] = peak_memory()
        record = seal(store, trial.folder, result, _record(work, metrics))
    checkpoints.forget()
    return record


def _fit(
    work: Work, family: Family, directory: Path, listener: Listener, checkpoints: Checkpoints
) -> Fitted:
    study, trial, asked = work.study, work.trial, work.study.evaluation
    training = with_micro_batch(trial.variant.training, checkpoints.micro_batch)
    variant = replace(trial.variant, training=training)
    examples = examples_of(variant, work.rows, study.held_out, asked.prompts)
    start = start_of(trial, family)
    tokenizer = load_tokenizer(work.base, study.base_models[trial.base_model])
    # Every draw of this trial follows from here, however often this process has trained before.
    set_seed(trial.seed)
    model = load_base(
        start.checkpoint, study.quantization, trust_remote_code=family.trust_remote_code
    )
    teach_stopping(model, tokenizer)
    for adapter in start.frozen:
        attach_frozen(model, adapter)
    progress, path = Progress(listener), PathRecorder()
    saver = Saver(
        checkpoints, study.resources.checkpoint_seconds, is_to_stop(family.store), progress.kept
    )
    stuck = stuck_file(family.store, trial.id)
    with Watch(stuck, study.resources.timeout_seconds) as watch:
        prepared = prepared_of(trial, family)
        setting = Setting(variant, trial.seed, study.quantization, asked, directory, prepared)
        trainer = build_trainer(model, tokenizer, examples, setting, [progress, path, saver, watch])
        counted = trainer.counted["train"]
        if said := counted.said(training.max_length):
            _log.warning("%s: %s", trial.name, said)
        found = checkpoints.fetch(directory)
        outcome = trainer.train(resume_from_checkpoint=found and str(found))
        if saver.stopped:
            raise Stopped
        _check_finite(trainer.model)
        adapter = directory / ADAPTER
        name = trial.base_model
        save_adapter(trainer.model, adapter, name, study.base_models[name])
        said = _interview(work, trainer.model, tokenizer, examples)
        eval_loss = _held_out_loss(trainer, examples)
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    metrics = {
        "steps": outcome.global_step,
        **counted.metrics,
        # Of all steps; transformers 5.23 counts those since the last checkpoint alone.
        "train_loss": math.fsum(losses) / len(losses),
        "eval_loss": eval_loss,
        "tokens_per_second": progress.tokens / progress.seconds if progress.seconds else None,
        **said.metrics,
    }
    assert progress.first_step, "a training has a step"
    logs = list(trainer.state.log_history)
    return Fitted(adapter, said, logs, path.table(), metrics, progress.first_step)


def _ask_again(work: Work, family: Family, store: Store, known: Record) -> Record:
    """Put the study's questions to a model that was trained before."""
    study, trial = work.study, work.trial
    start = start_of(trial, family)
    trust = family.trust_remote_code
    model = load_base(start.checkpoint, study.quantization, trust_remote_code=trust)
    for adapter in start.frozen:
        attach_frozen(model, adapter)
    trained = PeftModel.from_pretrained(model, family.adapter(trial))
    prompts = study.evaluation.prompts
    examples = examples_of(trial.variant, work.rows, study.held_out, prompts)
    tokenizer = load_tokenizer(work.base, study.base_models[trial.base_model])
    teach_stopping(model, tokenizer)
    said = _interview(work, trained, tokenizer, examples)
    write_samples(store, trial.folder, said.rows)
    metrics = {**known.metrics, **said.metrics}
    changed = {"evaluation": evaluation_id(study, work.rows), "metrics": metrics}
    return write_record(store, trial.folder, known.model_copy(update=changed))


def _interview(work: Work, model: Any, tokenizer: Any, examples: Examples) -> Interview:
    trial, asked = work.trial, (work.study, work.rows, examples.questions)
    return interview(model, tokenizer, *asked, trial.seed, trial.variant.training.max_length)


def _held_out_loss(trainer: Any, examples: Examples) -> float | None:
    return None if examples.held_out is None else float(trainer.evaluate()["eval_loss"])


def _check_finite(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise NonFiniteError("a weight is not finite", found=name, expected="numbers")


def _task_vector(trial: Trial, family: Family, adapter: Path) -> dict[str, float]:
    """L1 and L2 of the whole way from the base model; of a chain also L2 of its two parts."""
    ancestors = tuple(family.adapter(family.trials[name]) for name in trial.lineage)
    whole = task_vector_norms(Place(adapters=(*ancestors, adapter)))
    norms = {"l1": whole.l1, "l2": whole.l2}
    if ancestors:
        norms["l2_parent"] = task_vector_norms(Place(adapters=ancestors)).l2
        norms["l2_child"] = task_vector_norms(Place(adapters=(adapter,))).l2
    return norms


def _record(work: Work, metrics: Mapping[str, Any]) -> Record:
    trial = work.trial
    return Record(
        name=trial.name,
        id=trial.id,
        identity=dict(trial.identity),
        data=dict(trial.variant.data_sets),
        evaluation=evaluation_id(work.study, work.rows),
        versions=versions(),
        metrics={key: finite_or_none(value) for key, value in metrics.items()},
    )
