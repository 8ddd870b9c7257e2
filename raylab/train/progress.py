"""The progress of a trial, and the end of a training that makes none.

Model: the callback `Progress` keeps the latest log and hands a progress mapping (step, loss,
tokens per second, time left, GPU memory) to a listener, at most once in `INTERVAL` seconds, so
that it costs nothing against a step. `store_progress` makes a listener that leaves the progress in
the store as well, for `raylab status`.
`Watchdog` is a timer of Python's faulthandler, which runs beside the interpreter and is set again
with every sign of life. When it expires, it writes the stack of every thread to a file of this
node and ends the process. It needs neither Python's lock nor the thread that hangs. Setting it
starts a thread, which takes 1 % of a small model's step. So a sign of life soon after the last
setting does not set it again, and every setting is longer by that much.
Invariant: a loss that is not finite ends the training at once with NonFiniteError. It is never
shown as a number. Work neither ends nor waits long because its progress cannot be stored. The
file of the stack has content only while the attempt's process is dead of the timer; an attempt
begins and ends without it.
"""

from __future__ import annotations

import faulthandler
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from transformers import TrainerCallback

from raylab.errors import NonFiniteError, StoreError
from raylab.store.filesystem import Store
from raylab.store.records import PROGRESS, finite_or_none, trial_key, write_json

INTERVAL = 2.0
"""Seconds between two progress mappings, at least."""
_STORE_PATIENCE = 1.0
"""Seconds to try again to store a progress, which may be lost."""

_SPACING = 1.0
"""Seconds between two settings of the timer; at most a tenth of the time that may pass."""

Listener = Callable[[Mapping[str, Any]], None]

_log = logging.getLogger("raylab.train")


def store_progress(
    store: Store, folder: str, listener: Listener = lambda progress: None
) -> Listener:
    """A listener that stores the progress of a trial or a merge, and passes it to `listener`."""
    impatient = store.with_timeout(_STORE_PATIENCE)

    def listen(progress: Mapping[str, Any]) -> None:
        stored = {key: finite_or_none(value) for key, value in progress.items()}
        try:
            write_json(impatient, trial_key(folder, PROGRESS), {**stored, "time": time.time()})
        except StoreError as error:
            _log.warning("the progress was not stored: %s", error)
        listener(progress)

    return listen


class Progress(TrainerCallback):
    """Hands the progress of a training to a listener."""

    def __init__(self, listener: Listener) -> None:
        """The clock starts when training begins."""
        self._listener = listener
        self._started = self._reported = time.monotonic()
        self.tokens = 0.0
        self.seconds = 0.0
        self.first_step: float | None = None
        """The end of the first step, in seconds since 1970."""
        self._first = self._checkpoint = 0
        self._last: dict[str, Any] | None = None

    def checkpoint_saved(self, step: int) -> None:
        """Report the checkpoint of `step` at once: a later attempt may go on from there."""
        self._checkpoint = step
        if self._last:
            self._listener({**self._last, "checkpoint": step})

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._started = self._reported = time.monotonic()
        self._first = self._checkpoint = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the time at which the first step ended."""
        self.first_step = self.first_step or time.time()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds = time.monotonic() - self._started

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Check the newest losses, and report them if it is time. Raises NonFiniteError."""
        logs = logs or {}
        for key in ("loss", "eval_loss"):
            if key in logs and not math.isfinite(float(logs[key])):
                raise NonFiniteError(
                    f"the {key} is not finite",
                    found=f"{logs[key]} at step {state.global_step}",
                    expected="a number",
                    todo="lower the learning rate, or check the data",
                )
        self.tokens = float(logs.get("num_tokens", self.tokens))
        if "loss" not in logs:
            return
        now = time.monotonic()
        seconds, steps = now - self._started, state.global_step - self._first
        left = state.max_steps - state.global_step
        self._last = {
            "step": state.global_step,
            "steps": state.max_steps,
            "loss": float(logs["loss"]),
            "tokens_per_second": self.tokens / seconds if seconds > 0 else 0.0,
            "seconds_left": seconds * left / steps if steps else 0.0,
            "memory_bytes": gpu_memory(),
            "checkpoint": self._checkpoint,
        }
        if now - self._reported >= INTERVAL:
            self._reported = now
            self._listener(self._last)


def gpu_memory() -> int | None:
    """The most bytes of its GPU that this process held so far; None where it has none."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None


class Watchdog(TrainerCallback):
    """The timer of one attempt, as a context and as a callback of the trainer."""

    def __init__(self, file: Path, seconds: float) -> None:
        """Allow at least `seconds` without a sign of life, and hardly more."""
        self._path, self._seconds = file, seconds
        self._spacing, self._set_at = min(_SPACING, seconds / 10), -math.inf

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
        self._path.unlink(missing_ok=True)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step begins."""
        self._set()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step has ended; a held-out loss or a checkpoint may take as long."""
        self._set()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A batch of the held-out loss has ended."""
        self._set()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The training has ended; its evaluation may take as long as a step."""
        self._set()

    def _set(self) -> None:
        now = time.monotonic()
        if now - self._set_at < self._spacing:
            return
        self._set_at = now
        faulthandler.dump_traceback_later(self._seconds + self._spacing, exit=True, file=self._file)
