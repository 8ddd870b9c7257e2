"""What the driver says while trials run: one line when a trial starts, moves on, or ends.

Invariant: lines go to standard error, so that a stage's output stays clean; numbers shown are
those that the trial reported, never estimates of the driver.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from ray.tune import Callback

_INTERVAL = 5.0
_ENDS = {"stopped": "stopped; it goes on from its checkpoint"}


class Narrator(Callback):
    """Prints the progress of a study as plain lines."""

    def __init__(self, total: int, done: int, on_end: Callable[[], None]) -> None:
        """`total` trials, `done` of them cached; `on_end` is called after each end."""
        self._total, self._done, self._on_end = total, done, on_end
        self._said: dict[str, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a worker."""
        self._say(trial, "starts")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has made progress; said at most every few seconds."""
        now = time.monotonic()
        if "loss" not in result or now - self._said.get(trial.trial_id, 0) < _INTERVAL:
            return
        self._said[trial.trial_id] = now
        self._say(
            trial,
            f"step {result['step']}/{result['steps']}  loss {result['loss']:.4g}  "
            f"{result['tokens_per_second']:.0f} tokens/s  {result['seconds_left']:.0f} s left",
        )

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial is done, or has failed, or was stopped."""
        result = trial.last_result or {}
        if "cause" in result:
            self._say(trial, _ENDS.get(result["cause"], "failed; the trial table says why"))
            self._on_end()
            return
        self._done += 1
        self._say(
            trial,
            f"done in {result.get('seconds', 0):.1f} s  L2 {result.get('l2', float('nan')):.4g}",
        )
        self._on_end()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Its worker died; Tune begins it again."""
        self._say(trial, "lost its worker; it begins again from its checkpoint")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed."""
        self._say(trial, "failed; the trial table says why")
        self._on_end()

    def _say(self, trial: Any, words: str) -> None:
        width = len(str(self._total))
        count = f"[{self._done:>{width}}/{self._total}]"
        print(f"{count} {trial.config['name']}  {words}", file=sys.stderr, flush=True)
