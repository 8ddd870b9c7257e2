"""One attempt at a trial or a merge: its log, its cause, its seconds; what all of them keep.

Model: `attempted` surrounds the work. What is printed within goes to a log; an exception is kept
as the attempt's cause and message, with the log, and goes on.
Invariant: an attempt that ended, well or not, has a JSON of its own in the store; one that was
killed has none.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import resource
import socket
import time
import traceback
from collections.abc import Iterator, Sequence

import torch

from raylab.store.paths import Store
from raylab.store.records import LOG, PROGRESS, Attempt, read_attempts, trial_key, write_attempt

_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "ray")


@contextlib.contextmanager
def attempted(store: Store, folder: str, gpus: Sequence[str]) -> Iterator[io.StringIO]:
    """Within, everything printed goes to the log that is given."""
    started, log = time.monotonic(), io.StringIO()
    attempt = Attempt(
        attempt=len(read_attempts(store, folder)) + 1, node=socket.gethostname(), gpus=tuple(gpus)
    )
    try:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            yield log
    except Exception as error:
        log.write(traceback.format_exc())
        store.write(trial_key(folder, LOG), log.getvalue().encode())
        failed = {
            "cause": getattr(error, "cause", "error"),
            "message": str(error) or type(error).__name__,
        }
        _end(store, folder, attempt.model_copy(update=failed), started)
        raise
    _end(store, folder, attempt, started)


def _end(store: Store, folder: str, attempt: Attempt, started: float) -> None:
    seconds = time.monotonic() - started
    write_attempt(store, folder, attempt.model_copy(update={"seconds": seconds}))
    store.delete(trial_key(folder, PROGRESS))


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
