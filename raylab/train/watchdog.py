"""A training that hangs: no step for a set time ends the process and leaves its stack.

Model: a timer of Python's faulthandler runs beside the interpreter and is set again with every
sign of life. When it expires, it writes the stack of every thread to a file of this node and
ends the process. It needs neither Python's lock nor the thread that hangs. Setting it starts a
thread, which takes 1 % of a small model's step. So a sign of life soon after the last setting
does not set it again, and every setting is longer by that much.
Invariant: the file has content only while the attempt's process is dead of the timer. An attempt
begins and ends without a file.
"""

from __future__ import annotations

import faulthandler
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transformers import TrainerCallback

_SPACING = 1.0
"""Seconds between two settings of the timer; at most a tenth of the time that may pass."""


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
