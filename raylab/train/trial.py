"""One trial from its start to its record; no Ray.

Model: `run_trial` makes attempts. An attempt that ran out of memory is followed by one with half
the micro-batch and twice the gradient accumulation, until the micro-batch is 1. An attempt trains
(`_train`), unless the trial has a record of another evaluation: then it only evaluates the saved
adapter again. `raylab.train.attempts` keeps the log, and writes the record last.
Invariant: the adapter's bytes are a function of the trial's identity, the micro-batch, the machine
and the number of threads. They do not depend on what the process trained before, or on how often
the training was stopped and resumed. A trial that fails leaves an attempt with its cause, and no
record.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel
from transformers import set_seed

from raylab.errors import NonFiniteError
from raylab.plan.asked import merge_prompts
from raylab.plan.framing import check_tokenizer
from raylab.plan.memory import can_shrink, micro_batch, with_micro_batch
from raylab.plan.trials import Trial
from raylab.spec.data.held_out import held_out_prompts
from raylab.spec.data.rows import Row
from raylab.spec.study import Study
from raylab.store.attempt_state import hang_stack_file, stop_checker, write_progress
from raylab.store.filesystem import Store
from raylab.store.phase import DATA, MEASURING, MODEL, STORING, Tell
from raylab.store.records import ADAPTER, HISTORY, PATHS, Record, read_attempts
from raylab.store.references import ModelLocation
from raylab.train.attempts import (
    UNPLACED,
    Made,
    Placement,
    Stopped,
    complete,
    recorded_attempt,
)
from raylab.train.base_checkpoint import StudyAdapters, start_of
from raylab.train.chat import check_date, teach_stopping
from raylab.train.dataset_cache import cache_of
from raylab.train.evaluate.evaluate import ModelEvaluation, evaluate_model
from raylab.train.examples import examples_of
from raylab.train.kept_values import keep_values
from raylab.train.methods import TrainerSettings, build_trainer, held_out_loss
from raylab.train.model import free_memory, load_base, load_tokenizer, share_gpu
from raylab.train.progress import AttemptProgress, Listener, Progress, Watchdog
from raylab.train.resume import Checkpoints, CheckpointSaver
from raylab.train.save_artifacts import history_table, parquet_bytes, save_adapter
from raylab.train.targets import check_fetched, targets_of
from raylab.train.trajectory import PathRecorder
from raylab.weights.adapter_config import needs_base

_log = logging.getLogger("raylab.train")


class Norms(Protocol):
    """L1 and L2 of a task vector."""

    @property
    def l1(self) -> float:
        """The sum of magnitudes."""

    @property
    def l2(self) -> float:
        """The root of the sum of squares."""


Measure = Callable[[ModelLocation], Norms]
"""Measures the task vector of a model; training itself forms no delta."""


@dataclass(frozen=True)
class TrialTask:
    """Everything that one trial needs; all fields but `trial` are those of its study."""

    study: Study
    trial: Trial
    trials: Mapping[str, Trial]
    rows: Mapping[str, Sequence[Row]]
    base: Path
    out: str

    @cached_property
    def store(self) -> Store:
        """The store of the study."""
        return Store(self.out)

    @cached_property
    def adapters(self) -> StudyAdapters:
        """The adapters of the trial's ancestors, over its base model."""
        trust = self.study.base_models[self.trial.base_model].trust_remote_code
        return StudyAdapters(self.trials, self.base, self.store, trust)


def run_trial(
    task: TrialTask, measure: Measure, listener: Listener, placement: Placement = UNPLACED
) -> Record:
    """Train `task.trial` to its record, in as many attempts as memory takes.

    Every error is kept as an attempt and raised. `Stopped` is raised as well, but is no failure.
    """
    is_to_stop = stop_checker(task.store)
    while True:
        if is_to_stop():
            raise Stopped
        try:
            return _attempt(task, measure, listener, placement)
        except Exception:
            if read_attempts(task.store, task.trial.folder)[-1].final:
                raise
        # Outside of the handler, whose traceback refers to the memory.
        free_memory()


def _attempt(task: TrialTask, measure: Measure, listener: Listener, placement: Placement) -> Record:
    trial, training = task.trial, task.trial.variant.training
    earlier = read_attempts(task.store, trial.folder)
    size = micro_batch(training, earlier)
    checkpoints = Checkpoints(task.store, trial.folder, trial.id, size)

    def is_final(cause: str) -> bool:
        return cause != "oom" or not can_shrink(training, earlier)

    def listen(told: Mapping[str, Any]) -> None:
        write_progress(task.store, trial.folder, told)
        listener(told)

    progress = AttemptProgress(listen, stop_checker(task.store))
    with recorded_attempt(task.store, trial.folder, placement, is_final=is_final) as attempt:
        share_gpu(task.study.resources.gpus)
        record = complete(
            trial,
            task.study,
            task.rows,
            task.store,
            data=trial.variant.data_sets,
            make=lambda directory: _train(
                task, directory, checkpoints, measure, progress, attempt.started
            ),
            evaluate_saved=lambda directory: _evaluate_saved(task, progress.tell),
        )
        checkpoints.delete()
        return record


def _train(
    task: TrialTask,
    directory: Path,
    checkpoints: Checkpoints,
    measure: Measure,
    progress: AttemptProgress,
    attempt_started: float,
) -> Made:
    """Train the trial in `directory`: its adapter, metrics and evaluation."""
    study, trial = task.study, task.trial
    training = with_micro_batch(trial.variant.training, checkpoints.micro_batch)
    variant = replace(trial.variant, training=training)
    examples = examples_of(variant, task.rows, study.held_out)
    model, tokenizer = _load_start(task, progress.tell)
    steps = Progress(progress)
    recorder = PathRecorder()
    saver = CheckpointSaver(
        checkpoints,
        study.resources.checkpoint_seconds,
        stop_checker(task.store),
        progress.checkpoint_saved,
    )
    stack = hang_stack_file(task.store, trial.id)
    with Watchdog(stack, study.resources.timeout_seconds) as watchdog:

        def tell(name: str, done: int = 0, of: int | None = None) -> None:
            watchdog.sign_of_life()
            progress.tell(name, done, of)

        tell(DATA)
        settings = TrainerSettings(
            variant,
            trial.seed,
            study.quantization,
            study.evaluation,
            directory,
            cache_of(trial, task.adapters),
            tell,
        )
        # The recorder adds its file to a checkpoint before the saver stores it.
        callbacks = [steps, recorder, saver, watchdog]
        trainer = build_trainer(model, tokenizer, examples, settings, callbacks)
        for part, counts in trainer.counts.items():
            if message := counts.message(training.max_length):
                held_out = "held out, " if part != "train" else ""
                _log.warning("%s: %s%s", trial.name, held_out, message)
        checkpoint = checkpoints.fetch(directory)
        _log.info("%s: the adapter reaches %s", trial.name, targets_of(trainer.model))
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        if saver.stopped:
            raise Stopped
        _check_finite(trainer.model)
        adapter = directory / ADAPTER
        save_adapter(trainer.model, adapter, trial.base_model, study.base_models[trial.base_model])
        metrics = _training_metrics(trainer, steps)
        evaluation = _evaluate(task, trainer.model, tokenizer, tell)
    assert steps.first_step, "a training has a step"
    metrics["first_step_seconds"] = steps.first_step - attempt_started
    metrics["micro_batch"] = checkpoints.micro_batch
    progress.tell(MEASURING)
    metrics |= _task_vector_norms(task, adapter, measure)
    progress.tell(STORING)
    files: dict[str, Path | bytes] = {
        ADAPTER: adapter,
        HISTORY: parquet_bytes(history_table(trainer.state.log_history)),
        PATHS: parquet_bytes(recorder.table()),
    }
    return Made(files, metrics, evaluation)


def _load_start(task: TrialTask, tell: Tell) -> tuple[Any, Any]:
    """(the model that the trial starts from, its tokenizer), with the trial's seed set."""
    tell(MODEL)
    study, trial = task.study, task.trial
    check_fetched(task.base, trial, task.trials, study.base_models[trial.base_model])
    start = start_of(trial, task.adapters)
    source = study.base_models[trial.base_model]
    tokenizer = load_tokenizer(task.base, source, study.template_date)
    check_tokenizer(study, trial.base_model, tokenizer, task.rows)
    check_date(trial, tokenizer)
    # Whatever the process did before; the trainer sets the seeds of all that follows.
    set_seed(trial.seed.init)
    model = load_base(
        start.checkpoint,
        study.quantization,
        start.frozen,
        trust_remote_code=task.adapters.trust_remote_code,
    )
    keep_values(model)
    teach_stopping(model, tokenizer)
    return model, tokenizer


def _check_finite(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise NonFiniteError("a weight is not finite", found=name, expected="numbers")


def _training_metrics(trainer: Any, progress: Progress) -> dict[str, Any]:
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    return {
        "steps": trainer.state.global_step,
        "targets": targets_of(trainer.model),
        **trainer.counts["train"].metrics,
        # Over all steps; transformers 5.23 averages over those since the last checkpoint.
        "train_loss": math.fsum(losses) / len(losses),
        "eval_loss": held_out_loss(trainer),
        "tokens_per_second": progress.tokens / progress.seconds if progress.seconds else None,
    }


def _evaluate(task: TrialTask, model: Any, tokenizer: Any, tell: Tell) -> ModelEvaluation:
    study, variant = task.study, task.trial.variant
    questions = held_out_prompts(task.rows[variant.data], study.held_out, study.evaluation.prompts)
    return evaluate_model(
        model,
        tokenizer,
        study,
        task.rows,
        questions,
        task.trial.seed.init,
        variant.training.max_length,
        merge_prompts(study, task.rows).beside(task.trial),
        tell,
    )


def _evaluate_saved(task: TrialTask, tell: Tell) -> ModelEvaluation:
    """Evaluate the adapter that was trained before."""
    model, tokenizer = _load_start(task, tell)
    adapter = task.adapters.directory(task.trial.name)
    return _evaluate(task, PeftModel.from_pretrained(model, adapter), tokenizer, tell)


def _task_vector_norms(task: TrialTask, adapter: Path, measure: Measure) -> dict[str, float]:
    """L1 and L2 of the task vector; for a chained trial, also L2 of the parents' and its own."""
    parents = task.adapters.lineage(task.trial)
    base = task.base if any(map(needs_base, (*parents, adapter))) else None
    whole = measure(ModelLocation(adapters=(*parents, adapter), base=base))
    norms = {"l1": whole.l1, "l2": whole.l2}
    if parents:
        norms["l2_parent"] = measure(ModelLocation(adapters=parents, base=base)).l2
        norms["l2_child"] = measure(ModelLocation(adapters=(adapter,), base=base)).l2
    return norms
