"""The progress of a trial: step, loss, tokens per second, time left, GPU memory.

Model: a trainer callback keeps the latest log and hands a progress mapping to a listener, at
most once in `INTERVAL` seconds, so that it costs nothing against a step. `store_progress` makes a
listener that leaves the progress in the store as well, for `raylab status`.
Invariant: a loss that is not finite ends the training at once with NonFiniteError. It is never
shown as a number. Work neither ends nor waits long because its progress cannot be stored.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from raylab.errors import NonFiniteError, StoreError
from raylab.store.filesystem import Store
from raylab.store.records import PROGRESS, finite_or_none, trial_key, write_json

INTERVAL = 2.0
"""Seconds between two progress mappings, at least."""
_STORE_PATIENCE = 1.0
"""Seconds to try again to store a progress, which may be lost."""

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
