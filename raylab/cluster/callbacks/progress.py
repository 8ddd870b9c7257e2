"""What the driver says while trials run: a live table on a terminal, plain lines elsewhere.

Model: each event of Tune changes the row of one trial, and says what happened; where that is
shown is for the outlet (`raylab.report.terminal.live_display`) to know. Why an attempt ended is in
the store.
Invariant: everything goes to standard error, so that a stage's output stays clean; numbers shown
are those that the trial reported, never estimates of the driver. A trial whose last result names
a cause has failed, or was stopped, though Tune ended it well.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune import Callback

from raylab.plan.trials import Trial
from raylab.report.terminal import progress_lines as news
from raylab.report.terminal.live_display import Outlet, outlet
from raylab.store.filesystem import Store
from raylab.store.records import Attempt, read_attempts

_INTERVAL = 5.0
_SIGHT = ("step", "steps", "loss", "tokens_per_second", "seconds_left", "memory_bytes")

# What has not failed, although its result has a cause.
_STATUSES = {"stopped": "pending"}


def narrator(
    trials: Sequence[Trial], to_run: Sequence[Trial], store: Store, on_end: Callable[[], None]
) -> Callback:
    """What tells the user how `to_run`, a part of all `trials`, go; `on_end` follows each end."""
    return Narrator(trials, to_run, store, on_end, _on_stderr)


def _on_stderr() -> Outlet:
    return outlet(sys.stderr, timed=True)


class Narrator(Callback):
    """Keeps a row for every trial, and says what becomes of it."""

    def __init__(
        self,
        trials: Sequence[Trial],
        to_run: Sequence[Trial],
        store: Store,
        on_end: Callable[[], None],
        make_outlet: Callable[[], Outlet],
    ) -> None:
        """Trials that are not `to_run` are done; `store` knows the attempts of those that are.

        Tune pickles its callbacks, and no outlet can be: it is made when the study begins.
        """
        waiting = {trial.name for trial in to_run}
        self._rows: dict[str, dict[str, Any]] = {
            trial.name: {**trial.row, "status": "pending" if trial.name in waiting else "done"}
            for trial in trials
        }
        self._trials, self._store = {trial.name: trial for trial in trials}, store
        self._on_end, self._make_outlet = on_end, make_outlet
        self._said: dict[str, float] = {}

    def setup(self, *args: Any, **info: Any) -> None:
        """The study begins."""
        self._out = self._make_outlet()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a worker."""
        row = self._change(trial, status="running", **self._attempt(trial))
        self._say(row, news.started(row), passing=row["attempt"] == 1)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has made progress; said at most every few seconds."""
        if "loss" not in result:
            return
        before = self._rows[trial.config["name"]].get("step")
        row = self._change(trial, **{key: result.get(key) for key in _SIGHT})
        if before is None or result["step"] < before:
            # A worker begins another attempt by itself where a smaller micro-batch may do.
            row = self._change(trial, **self._attempt(trial))
        now = time.monotonic()
        if now - self._said.get(trial.trial_id, 0) >= _INTERVAL:
            self._said[trial.trial_id] = now
            self._say(row, news.moved(row), passing=True)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Its worker died; Tune begins it again."""
        row = self._change(trial, status="pending", **dict.fromkeys(_SIGHT))
        self._say(row, "lost its worker; it begins again from its checkpoint")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended as far as Tune knows: it is done, or its result says why it is not."""
        result = trial.last_result or {}
        cause = result.get("cause")
        status = "done" if cause is None else _STATUSES.get(cause, "failed")
        told = {key: result.get(key) for key in ("cause", "message", "seconds", "l2")}
        self._end(self._change(trial, status=status, **told))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Its worker died, and it is not begun again."""
        last = self._attempts(trial)[-1]
        self._end(self._change(trial, status="failed", cause=last.cause, message=last.message))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune has looked for events once more, several times a second."""
        self._out.show(list(self._rows.values()))

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """All trials have ended, or the user ended them."""
        self._out.close()

    def _attempt(self, trial: Any) -> dict[str, Any]:
        """Which attempt this is, and why there was one before."""
        before = self._attempts(trial)
        return {"attempt": len(before) + 1, "cause": before[-1].cause if before else None}

    def _attempts(self, trial: Any) -> list[Attempt]:
        return read_attempts(self._store, self._trials[trial.config["name"]].folder)

    def _change(self, trial: Any, **values: Any) -> dict[str, Any]:
        row = self._rows[trial.config["name"]] | values
        self._rows[row["name"]] = row
        return row

    def _end(self, row: dict[str, Any]) -> None:
        self._rows[row["name"]] = row
        if row["status"] == "failed":
            self._block(row["name"])
        self._say(row, news.ended(row))
        self._on_end()

    def _block(self, failed: str) -> None:
        for name, trial in self._trials.items():
            if failed in trial.lineage and self._rows[name]["status"] == "pending":
                self._rows[name] = self._rows[name] | {"status": "blocked"}

    def _say(self, row: dict[str, Any], words: str, *, passing: bool = False) -> None:
        done = sum(other["status"] == "done" for other in self._rows.values())
        self._out.say(news.line(row, words, done, len(self._rows)), passing=passing)
