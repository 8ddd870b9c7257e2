"""One trial from start to record; no Ray.

Model: find the start, build the trainer, train, save the adapter, ask the model, measure its
task vector, seal the folder. A trial whose adapter is sealed already, but which was asked other
questions, is asked again without being trained.
Invariant: the adapter's bytes are a function of the trial's identity, the machine and the
number of threads, whether the process is fresh or has trained before. The record is written
last; a trial that fails leaves an attempt with its cause, and no record.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from peft import PeftModel
from pyarrow import parquet
from transformers import set_seed

from raylab.errors import NonFiniteError
from raylab.plan.cache import evaluation_id
from raylab.plan.trials import Trial
from raylab.reduce.study import task_vector_norms
from raylab.reduce.views import Place
from raylab.spec.rows import Row
from raylab.spec.study import Study
from raylab.store.paths import Store
from raylab.store.records import (
    ADAPTER,
    HISTORY,
    LOG,
    PROGRESS,
    Record,
    finite_or_none,
    read_records,
    trial_key,
    write_json,
    write_record,
)
from raylab.train.attempts import attempted, peak_memory, versions
from raylab.train.attempts import quiet_libraries as quiet_libraries
from raylab.train.checks import Sample, ask, rates
from raylab.train.data import Examples, examples_of
from raylab.train.methods import Setting, build_trainer
from raylab.train.model import attach_frozen, load_base, load_tokenizer
from raylab.train.parents import Family, start_of, study_scratch
from raylab.train.prepared import prepared_of
from raylab.train.progress import Listener, Progress
from raylab.train.questions import write_samples


@dataclass(frozen=True)
class Work:
    """What one trial needs to know; the same for all trials of a study but `trial`."""

    study: Study
    trial: Trial
    trials: Mapping[str, Trial]
    rows: Mapping[str, Sequence[Row]]
    base: Path
    out: str


def run_trial(work: Work, listener: Listener, gpus: Sequence[str] = ()) -> Record:
    """Train `work.trial` to its record; whatever goes wrong is kept as an attempt and raised."""
    store, folder = Store(work.out), work.trial.folder
    with attempted(store, folder, gpus) as log:
        return _train(work, store, _storing(store, folder, listener), log)


def _storing(store: Store, folder: str, listener: Listener) -> Listener:
    """A listener that also leaves the progress in the store, for `raylab status`."""

    def tell(progress: Mapping[str, Any]) -> None:
        timed = {key: finite_or_none(value) for key, value in progress.items()}
        write_json(store, trial_key(folder, PROGRESS), {**timed, "time": time.time()})
        listener(progress)

    return tell


def _train(work: Work, store: Store, listener: Listener, log: io.StringIO) -> Record:
    study, trial = work.study, work.trial
    started = time.monotonic()
    torch.set_num_threads(study.resources.cpus)
    trust = study.base_models[trial.base_model].trust_remote_code
    family = Family(work.trials, work.base, store, trust)
    scratch = study_scratch(store)
    scratch.mkdir(parents=True, exist_ok=True)
    records, _ = read_records(store)
    if known := records.get(trial.id):
        return _ask_again(work, family, store, known)
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        result = _fit(work, family, Path(directory), listener)
        metrics = {**result.metrics, **_task_vector(trial, family, result.adapter)}
        metrics["seconds"] = time.monotonic() - started
        metrics["peak_memory_bytes"] = peak_memory()
        return _seal(work, store, result, metrics, log)


@dataclass(frozen=True)
class _Fitted:
    """What training leaves: the adapter's directory, samples, history and metrics."""

    adapter: Path
    samples: Sequence[Sample]
    history: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]


def _fit(work: Work, family: Family, directory: Path, listener: Listener) -> _Fitted:
    study, trial = work.study, work.trial
    asked = study.evaluation
    examples = examples_of(trial.variant, work.rows, study.held_out, asked.prompts)
    start = start_of(trial, family)
    tokenizer = load_tokenizer(work.base, trust_remote_code=family.trust_remote_code)
    # Every draw of this trial follows from here, however often this process has trained before.
    set_seed(trial.seed)
    model = load_base(
        start.checkpoint, study.quantization, trust_remote_code=family.trust_remote_code
    )
    for adapter in start.frozen:
        attach_frozen(model, adapter)
    progress = Progress(listener)
    prepared = prepared_of(trial, family)
    setting = Setting(trial.variant, trial.seed, study.quantization, asked, directory, prepared)
    trainer = build_trainer(model, tokenizer, examples, setting, [progress])
    outcome = trainer.train()
    _check_finite(trainer.model)
    adapter = directory / ADAPTER
    _save_adapter(trainer.model, adapter, work)
    samples = ask(trainer.model, tokenizer, examples.questions, asked.max_new_tokens)
    metrics = {
        "steps": outcome.global_step,
        "train_loss": outcome.training_loss,
        "eval_loss": _held_out_loss(trainer, examples),
        "micro_batch": trial.variant.training.batch_size,
        "tokens_per_second": progress.tokens / progress.seconds if progress.seconds else None,
        **rates(samples, asked.style),
    }
    return _Fitted(adapter, samples, list(trainer.state.log_history), metrics)


def _ask_again(work: Work, family: Family, store: Store, known: Record) -> Record:
    """Put the study's questions to a model that was trained before."""
    study, trial = work.study, work.trial
    start = start_of(trial, family)
    trust = family.trust_remote_code
    model = load_base(start.checkpoint, study.quantization, trust_remote_code=trust)
    for adapter in start.frozen:
        attach_frozen(model, adapter)
    trained = PeftModel.from_pretrained(model, family.adapter(trial))
    asked = study.evaluation
    examples = examples_of(trial.variant, work.rows, study.held_out, asked.prompts)
    tokenizer = load_tokenizer(work.base, trust_remote_code=trust)
    samples = ask(trained, tokenizer, examples.questions, asked.max_new_tokens)
    write_samples(store, trial.folder, samples)
    metrics = {**known.metrics, **rates(samples, asked.style)}
    changed = {"evaluation": evaluation_id(study), "metrics": metrics}
    return write_record(store, trial.folder, known.model_copy(update=changed))


def _held_out_loss(trainer: Any, examples: Examples) -> float | None:
    return None if examples.held_out is None else float(trainer.evaluate()["eval_loss"])


def _check_finite(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise NonFiniteError("a weight is not finite", found=name, expected="numbers")


def _save_adapter(model: PeftModel, directory: Path, work: Work) -> None:
    """Save the adapter; its config names the base model as the study does, in a stable order."""
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    file = directory / "adapter_config.json"
    config = json.loads(file.read_text())
    place = work.study.base_models[work.trial.base_model]
    config["base_model_name_or_path"] = place.hub or work.trial.base_model
    config["revision"] = place.revision
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()
    file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def _task_vector(trial: Trial, family: Family, adapter: Path) -> dict[str, float]:
    """L1 and L2 of the whole way from the base model; of a chain also L2 of its two parts."""
    ancestors = tuple(family.adapter(family.trials[name]) for name in trial.lineage)
    whole = task_vector_norms(Place(adapters=(*ancestors, adapter)))
    norms = {"l1": whole.l1, "l2": whole.l2}
    if ancestors:
        norms["l2_parent"] = task_vector_norms(Place(adapters=ancestors)).l2
        norms["l2_child"] = task_vector_norms(Place(adapters=(adapter,))).l2
    return norms


def _seal(
    work: Work, store: Store, result: _Fitted, metrics: Mapping[str, Any], log: io.StringIO
) -> Record:
    trial, folder = work.trial, work.trial.folder
    store.upload(result.adapter, trial_key(folder, ADAPTER))
    write_samples(store, folder, result.samples)
    store.write(trial_key(folder, HISTORY), _history(result.history))
    store.write(trial_key(folder, LOG), log.getvalue().encode())
    record = Record(
        name=trial.name,
        id=trial.id,
        identity=dict(trial.identity),
        data=dict(trial.variant.data_sets),
        evaluation=evaluation_id(work.study),
        versions=versions(),
        metrics={key: finite_or_none(value) for key, value in metrics.items()},
    )
    return write_record(store, folder, record)


def _history(logs: Sequence[Mapping[str, Any]]) -> bytes:
    """Every log of the trainer as a row; a value that a row lacks is null."""
    columns = sorted({key for log in logs for key, v in log.items() if isinstance(v, (int, float))})
    table = pa.table(
        {name: pa.array([log.get(name) for log in logs], pa.float64()) for name in columns}
    )
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()
