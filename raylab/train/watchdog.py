"""A training that hangs: no step for a set time ends the process, and leaves the stack of it.

Model: a timer of Python's faulthandler runs beside the interpreter and is set anew with every
sign of life. When it runs out, it writes the stack of every thread to a file of this node and
ends the process; it needs neither Python's lock nor the thread that hangs. Setting it starts a
thread, which is 1 % of a small model's step: a sign of life that follows close on one that set it
is let pass, and it is set for so much longer.
Invariant: the file says something only while the process of the attempt is dead of it; an attempt
begins and ends without one.
"""

from __future__ import annotations

import faulthandler
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transformers import TrainerCallback

_SPARE = 1.0
"""Seconds between two settings of the timer, at least; a tenth of what may pass, at most."""


class Watch(TrainerCallback):
    """The timer of one attempt, as a context and as a callback of the trainer."""

    def __init__(self, file: Path, seconds: float) -> None:
        """Let at least `seconds` pass without a sign of life, and hardly more."""
        self._path, self._seconds = file, seconds
        self._spare, self._set_at = min(_SPARE, seconds / 10), -math.inf

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
        """A step is done; what follows it (a held-out loss, a checkpoint) has as long."""
        self._set()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A batch of the held-out loss is done."""
        self._set()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """What follows, the held-out loss and the questions, has as long as a step."""
        self._set()

    def _set(self) -> None:
        now = time.monotonic()
        if now - self._set_at < self._spare:
            return
        self._set_at = now
        faulthandler.dump_traceback_later(self._seconds + self._spare, exit=True, file=self._file)
