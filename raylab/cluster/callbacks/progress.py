"""The progress of trials: a live table on a terminal, plain lines elsewhere.

Model: each event of Tune changes the row of one trial and prints a line.
`raylab.report.terminal.live_display` decides how they are shown. The cause of an attempt's end is
read from the store.
Invariant: everything goes to standard error. Numbers are those that the trial reported, never
estimates of the driver. A trial whose last result names a cause has failed or was stopped, though
Tune ended it as a success.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune import Callback

from raylab.plan.trials import Trial
from raylab.report.terminal import live_display
from raylab.store.filesystem import Store
from raylab.store.records import Attempt, read_attempts

_LINE_SECONDS = 5.0
"""The least time between two progress lines of a trial."""
_PROGRESS_FIELDS = ("step", "steps", "loss", "tokens_per_second", "seconds_left", "memory_bytes")

_STATUSES = {"stopped": "pending"}
"""The statuses of causes that are no failures."""


def _stderr_display() -> live_display.Display:
    return live_display.open_display(sys.stderr, timed=True)


class ProgressCallback(Callback):
    """Keeps a row for every trial, and prints its events."""

    def __init__(
        self,
        trials: Sequence[Trial],
        to_run: Sequence[Trial],
        store: Store,
        on_end: Callable[[], None],
        make_display: Callable[[], live_display.Display] = _stderr_display,
    ) -> None:
        """`to_run` is the part of `trials` that is not done; `on_end` is called after each end.

        Tune pickles its callbacks, and a display cannot be pickled: `setup` makes it.
        """
        waiting = {trial.name for trial in to_run}
        self._rows: dict[str, dict[str, Any]] = {
            trial.name: {**trial.row, "status": "pending" if trial.name in waiting else "done"}
            for trial in trials
        }
        self._trials, self._store = {trial.name: trial for trial in trials}, store
        self._on_end, self._make_display = on_end, make_display
        self._last_line: dict[str, float] = {}

    def setup(self, *args: Any, **info: Any) -> None:
        """Open the display."""
        self._display = self._make_display()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a worker."""
        row = self._change(trial, status="running", **self._attempt(trial))
        self._say(row, live_display.start_text(row), transient=row["attempt"] == 1)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has made progress; print a line at most every few seconds."""
        if "loss" not in result:
            return
        before = self._rows[trial.config["name"]].get("step")
        row = self._change(trial, **{key: result.get(key) for key in _PROGRESS_FIELDS})
        if before is None or result["step"] < before:
            # A worker starts another attempt by itself with a smaller micro-batch.
            row = self._change(trial, **self._attempt(trial))
        now = time.monotonic()
        if now - self._last_line.get(trial.trial_id, 0) >= _LINE_SECONDS:
            self._last_line[trial.trial_id] = now
            self._say(row, live_display.progress_text(row), transient=True)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and Tune restarts its trial."""
        row = self._change(trial, status="pending", **dict.fromkeys(_PROGRESS_FIELDS))
        self._say(row, "lost its worker; it begins again from its checkpoint")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended: it is done, or its last result names the cause."""
        result = trial.last_result or {}
        cause = result.get("cause")
        status = "done" if cause is None else _STATUSES.get(cause, "failed")
        values = {key: result.get(key) for key in ("cause", "message", "seconds", "l2")}
        self._end(self._change(trial, status=status, **values))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and Tune gives the trial up."""
        last = self._attempts(trial)[-1]
        self._end(self._change(trial, status="failed", cause=last.cause, message=last.message))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Redraw the table; Tune calls this several times a second."""
        self._display.update(list(self._rows.values()))

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Close the display."""
        self._display.close()

    def _attempt(self, trial: Any) -> dict[str, Any]:
        """The number of this attempt, and the cause that ended the one before."""
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
            for name, trial in self._trials.items():
                if row["name"] in trial.lineage and self._rows[name]["status"] == "pending":
                    self._rows[name] = self._rows[name] | {"status": "blocked"}
        self._say(row, live_display.end_text(row))
        self._on_end()

    def _say(self, row: dict[str, Any], words: str, *, transient: bool = False) -> None:
        done = sum(other["status"] == "done" for other in self._rows.values())
        self._display.write_line(
            live_display.numbered_line(row, words, done, len(self._rows)), transient=transient
        )
