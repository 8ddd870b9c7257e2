"""What a trial shows while it trains: step, loss, tokens per second, time left, GPU memory.

Model: a trainer callback keeps the latest log and hands a progress mapping to a listener, at
most once in `INTERVAL` seconds, so that listening costs nothing against a step.
Invariant: a loss that is not finite ends the training at once with NonFiniteError; it is never
shown as a number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from raylab.errors import NonFiniteError

INTERVAL = 2.0

Listener = Callable[[Mapping[str, Any]], None]


class Progress(TrainerCallback):
    """Tells a listener how far a training is."""

    def __init__(self, listener: Listener) -> None:
        """Tell `listener`; the clock starts with the first step."""
        self._listener = listener
        self._started = self._told = time.monotonic()
        self.tokens = 0.0
        self.seconds = 0.0
        self.first_step: float | None = None
        self._begun = self._checkpoint = 0
        self._last: dict[str, Any] | None = None

    def kept(self, step: int) -> None:
        """A checkpoint of `step` was kept: told at once, since a process that dies after it may
        go on from there."""
        self._checkpoint = step
        if self._last:
            self._listener({**self._last, "checkpoint": step})

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._started = self._told = time.monotonic()
        self._begun = self._checkpoint = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember when the first step ended, in seconds since 1970."""
        self.first_step = self.first_step or time.time()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds = time.monotonic() - self._started

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Look at the newest losses, and pass them on if it is time."""
        logs = logs or {}
        for key in ("loss", "eval_loss"):
            if key in logs and not math.isfinite(float(logs[key])):
                raise NonFiniteError(
                    f"the {key} is not finite",
                    found=f"{logs[key]} at step {state.global_step}",
                    expected="a number",
                    todo="lower the learning rate, or look at the data",
                )
        self.tokens = float(logs.get("num_tokens", self.tokens))
        now = time.monotonic()
        if "loss" in logs:
            self._last = self._progress(state, float(logs["loss"]), now - self._started)
            if now - self._told >= INTERVAL:
                self._told = now
                self._listener(self._last)

    def _progress(self, state: Any, loss: float, seconds: float) -> dict[str, Any]:
        steps = state.global_step - self._begun
        left = state.max_steps - state.global_step
        return {
            "step": state.global_step,
            "steps": state.max_steps,
            "loss": loss,
            "tokens_per_second": self.tokens / seconds if seconds > 0 else 0.0,
            "seconds_left": seconds * left / steps if steps else 0.0,
            "memory_bytes": gpu_memory(),
            "checkpoint": self._checkpoint,
        }


def gpu_memory() -> int | None:
    """Bytes of its GPU that this process took at most so far; None where it has none."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None
