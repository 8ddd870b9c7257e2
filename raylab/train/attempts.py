"""One attempt at a trial or a merge: its log, its cause, its seconds; what all of them keep.

Model: `attempted` surrounds the work. What is printed within goes to a log in the trial's folder,
attempt after attempt; an exception is kept as the attempt's cause and message, with its traceback
in the log, and goes on.
Invariant: an attempt that ended, well or not, has a JSON of its own in the store. One whose
process was killed leaves running.json, from which the driver, or the next attempt, makes it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import resource
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import torch

from raylab.store.attempt_state import Running, begin, close, end, kernel_oom_kills
from raylab.store.filesystem import Store, study_scratch
from raylab.store.records import LOG, read_attempts, trial_key

_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "ray")
# Allocators of torch that raise no OutOfMemoryError.
_WORDS_OF_OOM = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Stopped(BaseException):
    """The training was asked to stop, and has saved what it needs to go on. No failure."""


def cause_of(error: BaseException) -> str:
    """The word for `error` in the tables."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "oom"
    if type(error) is RuntimeError and any(words in str(error) for words in _WORDS_OF_OOM):
        return "oom"
    return str(getattr(error, "cause", "error"))


@contextlib.contextmanager
def attempted(
    store: Store,
    folder: str,
    *,
    gpus: Sequence[str] = (),
    node_id: str = "",
    is_final: Callable[[str], bool] = lambda cause: True,
) -> Iterator[Running]:
    """Within, everything printed goes to the log. `is_final`: whether a cause ends the trial."""
    running = begin(
        store,
        folder,
        Running(
            attempt=len(read_attempts(store, folder)) + 1,
            node=socket.gethostname(),
            pid=os.getpid(),
            node_id=node_id,
            gpus=tuple(gpus),
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
            end(store, folder)
            raise
        except Exception as error:
            log.write(traceback.format_exc())
            cause, message = cause_of(error), str(error) or type(error).__name__
            close(store, folder, running, cause=cause, message=message, final=is_final(cause))
            raise
        close(store, folder, running)


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


def versions() -> dict[str, str]:
    """The versions of the libraries that a result may depend on."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def peak_memory() -> int:
    """Bytes of this process's GPU at most so far, or of its main memory where it has no GPU."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep libraries from writing bars and advice into a worker's output."""
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    yield
