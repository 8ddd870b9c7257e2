"""One attempt at a trial or a merge, from its log to its record.

Model: `recorded_attempt` surrounds the work. What is printed within goes to a log in the folder
of the trial, one attempt after the other. An exception is kept as the cause and the message of
the attempt, with its traceback in the log, and is raised again. `complete` makes the result or,
where a record is there already, only evaluates the saved model again.
Invariant: an attempt that ended, well or not, has a JSON of its own in the store. One whose
process was killed leaves running.json, from which the driver or the next attempt makes that JSON.
The record is written last, after every file that it names.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import resource
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from raylab.plan.cache import questions_of
from raylab.plan.merges import Asked
from raylab.spec.data.rows import Row
from raylab.spec.study import Study
from raylab.store.attempt_state import (
    RunningAttempt,
    begin_attempt,
    clear_running,
    finish_attempt,
    kernel_oom_kills,
)
from raylab.store.filesystem import Store, study_scratch
from raylab.store.records import (
    ASKED,
    BESIDE,
    LOG,
    Record,
    finite_or_none,
    read_attempts,
    read_record,
    trial_key,
    write_record,
)
from raylab.train.evaluate.evaluate import ModelEvaluation
from raylab.train.save_artifacts import write_samples

_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "ray")
# Allocators of torch that raise no OutOfMemoryError.
_OOM_MESSAGES = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_PROCESS = Path("/proc/self")
_RESULT_PATIENCE = 1800.0
"""Seconds to try again to store what took hours to make."""


class Stopped(BaseException):
    """The training was asked to stop and has saved its checkpoint. This is no failure."""


@dataclass(frozen=True)
class Placement:
    """The GPUs and the Ray node of an attempt, as its JSON names them."""

    gpus: tuple[str, ...] = ()
    node_id: str = ""


UNPLACED = Placement()
"""That of a process which Ray did not start."""


@dataclass(frozen=True)
class Made:
    """The result of an attempt before it is in the store.

    files: by name in the folder of the trial, a local directory or the bytes of a file.
    """

    files: Mapping[str, Path | bytes]
    metrics: Mapping[str, Any]
    evaluation: ModelEvaluation


@contextlib.contextmanager
def recorded_attempt(
    store: Store,
    folder: str,
    placement: Placement = UNPLACED,
    *,
    is_final: Callable[[str], bool] = lambda cause: True,
) -> Iterator[RunningAttempt]:
    """Log and record the attempt that runs within.

    is_final: whether a cause ends the trial; otherwise another attempt follows by itself.
    """
    forget_peak_memory()
    running = begin_attempt(
        store,
        folder,
        RunningAttempt(
            attempt=len(read_attempts(store, folder)) + 1,
            node=socket.gethostname(),
            pid=os.getpid(),
            node_id=placement.node_id,
            gpus=placement.gpus,
            started=time.time(),
            oom_kills=kernel_oom_kills(),
        ),
    )
    with _log(store, folder) as log:
        print(f"attempt {running.attempt} on {running.node}", file=log)
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield running
        except Stopped:
            print("stopped on request; the next attempt goes on from here", file=log)
            clear_running(store, folder)
            raise
        except Exception as error:
            log.write(traceback.format_exc())
            cause, message = cause_of(error), str(error) or type(error).__name__
            finish_attempt(
                store, folder, running, cause=cause, message=message, final=is_final(cause)
            )
            raise
        finish_attempt(store, folder, running)


def complete(
    item: Asked,
    study: Study,
    rows: Mapping[str, Sequence[Row]],
    store: Store,
    *,
    data: Mapping[str, str],
    make: Callable[[Path], Made],
    evaluate_saved: Callable[[Path], ModelEvaluation],
) -> Record:
    """The record of a trial, a merge or a finished model that is asked, written after everything
    that it names.

    make, evaluate_saved: called with a scratch directory. The first makes the result. The second
    evaluates the model in the store, where the record is of another evaluation.
    data: the data sets by role, as the record holds them.
    """
    started = time.monotonic()
    torch.set_num_threads(study.resources.cpus)
    patient = store.with_timeout(_RESULT_PATIENCE)
    questions = questions_of(study, rows)
    asked = {"evaluation": questions.id, "held_out": dict(questions.held_out)}
    scratch = study_scratch(store)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        if known := read_record(store, item.folder):
            result = evaluate_saved(Path(directory))
            kept = {key: value for key, value in known.metrics.items() if key != ASKED}
            metrics = kept | dict(result.metrics)
            record = known.model_copy(update={**asked, "metrics": metrics})
            _write_answers(patient, item.folder, result)
            return write_record(patient, item.folder, record)
        made = make(Path(directory))
        metrics = {
            **made.metrics,
            **made.evaluation.metrics,
            "seconds": time.monotonic() - started,
            "peak_memory_bytes": peak_memory(),
        }
        record = Record(
            name=item.name,
            id=item.id,
            identity=dict(item.identity),
            data=dict(data),
            versions=versions(),
            metrics={key: finite_or_none(value) for key, value in metrics.items()},
            **asked,
        )
        for name, content in made.files.items():
            key = trial_key(item.folder, name)
            if isinstance(content, bytes):
                patient.write(key, content)
            else:
                # An attempt that left no record may have left files that this one has not.
                patient.delete(key)
                patient.upload(content, key)
        _write_answers(patient, item.folder, made.evaluation)
        return write_record(patient, item.folder, record)


def _write_answers(store: Store, folder: str, evaluation: ModelEvaluation) -> None:
    """Write the answers of a model; an earlier evaluation may have left others."""
    write_samples(store, folder, evaluation.samples)
    if evaluation.beside:
        write_samples(store, folder, evaluation.beside, BESIDE)
    else:
        store.delete(trial_key(folder, BESIDE))


def cause_of(error: BaseException) -> str:
    """The word for `error` in the tables."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "oom"
    if type(error) is RuntimeError and any(words in str(error) for words in _OOM_MESSAGES):
        return "oom"
    return str(getattr(error, "cause", "error"))


@contextlib.contextmanager
def _log(store: Store, folder: str) -> Iterator[TextIO]:
    """The trial's log, to be added to; on an object store it is there when the attempt ends."""
    key = trial_key(folder, LOG)
    path = (
        Path(store.path(key)) if store.is_local else study_scratch(store) / "logs" / f"{folder}.txt"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if not store.is_local and store.exists(key):
        path.write_bytes(store.read(key))
    try:
        with path.open("a", encoding="utf-8", buffering=1) as log:
            yield log
    finally:
        if not store.is_local:
            store.write(key, path.read_bytes())


@functools.cache
def versions() -> dict[str, str]:
    """The versions of the libraries that a result may depend on."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def peak_memory() -> int:
    """The most bytes that this process held since `forget_peak_memory`.

    Of its GPU, or of main memory where it has none.
    """
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    status = _PROCESS / "status"
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak_memory() -> None:
    """Begin to count the peak anew: a worker trains one trial after the other.

    A system that does not let a process reset its peak keeps the largest so far (proc(5)).
    """
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep libraries from writing progress bars and advice into a worker's output."""
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    yield
