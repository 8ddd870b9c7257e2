"""The progress of a trial, and the end of a training that makes none.

Model: `AttemptProgress` hands a progress mapping (the phase; step, loss, tokens per second, time
left, GPU memory) to a listener, seldom, so that it costs nothing against a step. The callback
`Progress` tells it of the training and of the held-out loss; whoever evaluates or merges tells it
of the rest.
`Watchdog` is a timer of Python's faulthandler, which runs beside the interpreter and is set again
with every sign of life. When it expires, it writes the stack of every thread to a file of this
node and ends the process. It needs neither Python's lock nor the thread that hangs. Setting it
starts a thread, which takes 1 % of a small model's step. So a sign of life soon after the last
setting does not set it again, and every setting is longer by that much.
Invariant: a loss that is not finite ends the training at once with NonFiniteError. It is never
shown as a number. A request to stop ends an attempt at once while it has nothing to save. The
file of the stack has content only while the attempt's process is dead of the timer; an attempt
begins and ends without it.
"""

from __future__ import annotations

import faulthandler
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from transformers import TrainerCallback

from raylab.errors import NonFiniteError
from raylab.store.phase import (
    BASE_MODEL,
    DATA,
    HELD_OUT,
    INTERVAL,
    MODEL,
    NUMBERS,
    REFERENCE,
    TRAINING,
    Phase,
    PhaseTeller,
)
from raylab.train.attempts import Stopped

_BEFORE_TRAINING = (BASE_MODEL, MODEL, DATA, REFERENCE)

_SPACING = 1.0
"""Seconds between two settings of the timer; at most a tenth of the time that may pass."""

Listener = Callable[[Mapping[str, Any]], None]


class AttemptProgress:
    """The phase of an attempt and the newest numbers of its training, told to a listener."""

    def __init__(self, listener: Listener, is_to_stop: Callable[[], bool] = lambda: False) -> None:
        """Nothing has begun. `is_to_stop` is asked while there is nothing to save."""
        self._listener, self._is_to_stop = listener, is_to_stop
        self._teller = PhaseTeller(self._report)
        self._logged: set[str] = set()
        self._asked = -math.inf
        self.numbers: dict[str, Any] = {**dict.fromkeys(NUMBERS), "checkpoint": 0}

    def tell(self, name: str, done: int = 0, of: int | None = None) -> None:
        """The attempt is in this phase now. Raises Stopped before there is anything to save."""
        self._teller(name, done, of)
        now = time.monotonic()
        if name in _BEFORE_TRAINING and now - self._asked >= INTERVAL:
            self._asked = now
            if self._is_to_stop():
                raise Stopped

    def checkpoint_saved(self, step: int) -> None:
        """Report the checkpoint of `step` at once: a later attempt may go on from there."""
        self.numbers["checkpoint"] = step
        self._teller.repeat()

    def _report(self, phase: Phase) -> None:
        if phase.name not in self._logged:
            self._logged.add(phase.name)
            print(f"{time.strftime('%H:%M:%S')} {phase.text}")
        numbers = dict(self.numbers)
        if phase.name != TRAINING:
            numbers |= {"seconds_left": phase.seconds_left(time.time()), "tokens_per_second": None}
        self._listener({**numbers, **phase.document})


class Progress(TrainerCallback):
    """Tells the progress of a training."""

    def __init__(self, progress: AttemptProgress) -> None:
        """The clock starts when training begins."""
        self._progress = progress
        self._started = time.monotonic()
        self.tokens = 0.0
        self.seconds = 0.0
        self.first_step: float | None = None
        """The end of the first step, in seconds since 1970."""
        self._first = self._scored = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._started = time.monotonic()
        self._first = state.global_step
        self._progress.numbers["checkpoint"] = state.global_step
        self._progress.tell(TRAINING, state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the time at which the first step ended."""
        self.first_step = self.first_step or time.time()

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        """Tell of a batch of the held-out loss."""
        self._scored += 1
        of = None if eval_dataloader is None else len(eval_dataloader)
        self._progress.tell(HELD_OUT, self._scored, of)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The held-out loss is there; the training goes on, unless it has ended."""
        self._scored = 0
        if not self.seconds:
            self._progress.tell(TRAINING, state.global_step, state.max_steps)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds = time.monotonic() - self._started

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Check the newest losses, and tell of them. Raises NonFiniteError."""
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
        seconds, steps = time.monotonic() - self._started, state.global_step - self._first
        left = state.max_steps - state.global_step
        self._progress.numbers |= {
            "step": state.global_step,
            "steps": state.max_steps,
            "loss": float(logs["loss"]),
            "tokens_per_second": self.tokens / seconds if seconds > 0 else 0.0,
            "seconds_left": seconds * left / steps if steps else 0.0,
            "memory_bytes": gpu_memory(),
        }
        self._progress.tell(TRAINING, state.global_step, state.max_steps)


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

    def sign_of_life(self) -> None:
        """Something else than a step made progress: DPO's reference, an answer."""
        self._set()

    def _set(self) -> None:
        now = time.monotonic()
        if now - self._set_at < self._spacing:
            return
        self._set_at = now
        faulthandler.dump_traceback_later(self._seconds + self._spacing, exit=True, file=self._file)
