"""Tune's events as rows and lines of the study's progress.

Model: each event of Tune changes the row of one trial and prints a line
(`raylab.cluster.study_progress`). The cause of an attempt's end is read from the store.
Invariant: everything goes to standard error. Numbers are those that the trial reported, never
estimates of the driver. A trial whose last result names a cause has failed or was stopped, though
Tune ended it as a success. One that Tune ended before it began is still pending.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune import Callback

from raylab.cluster.study_progress import StudyProgress
from raylab.plan.merges import Planned
from raylab.report.terminal import live_display
from raylab.store.filesystem import Store
from raylab.store.phase import LOADING, NUMBERS, TRIALS, Tell
from raylab.store.records import Attempt, read_attempts

_FIELDS = ("phase", *NUMBERS)

_STATUSES = {"stopped": "pending"}
"""The statuses of causes that are no failures."""


def stderr_display(left: live_display.Left = live_display.unknown_left) -> live_display.Display:
    """Where a driver shows its progress, and the time `left`."""
    return live_display.open_display(sys.stderr, timed=True, left=left)


class ProgressCallback(Callback):
    """Keeps a row for every trial and merge, and prints the events of trials."""

    def __init__(
        self,
        planned: Sequence[Planned],
        waiting: Sequence[Planned],
        store: Store,
        on_end: Callable[[], None],
        make_display: Callable[[], live_display.Display] = stderr_display,
    ) -> None:
        """`waiting` is the part of `planned` that is not done; `on_end` is called after each end.

        Tune pickles its callbacks, and a display cannot be pickled: `setup` makes it.
        """
        ids = {item.id for item in waiting}
        rows = {i.name: {"status": "pending" if i.id in ids else "done"} for i in planned}
        self._progress = StudyProgress(planned, rows)
        self._folders, self._store = {item.name: item.folder for item in planned}, store
        self._on_end, self._make_display = on_end, make_display

    def setup(self, *args: Any, **info: Any) -> None:
        """Open the display."""
        self._progress.open(self._make_display())

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a worker."""
        values = {**self._attempt(trial), "phase": LOADING, "begun": time.time()}
        row = self._change(trial, status="running", **values)
        self._progress.begin(row)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has made progress; print a line at each quarter of its training."""
        if "phase" not in result:
            return
        step, before = result.get("step"), self._progress.rows[trial.config["name"]].get("step")
        row = self._change(trial, **{key: result.get(key) for key in _FIELDS})
        if step is None or before is None or step < before:
            # A worker starts another attempt by itself with a smaller micro-batch.
            row = self._change(trial, **self._attempt(trial))
        self._progress.say_quarter(row)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and Tune restarts its trial."""
        row = self._change(trial, status="pending", **dict.fromkeys(_FIELDS))
        self._progress.say(row, "lost its worker; it begins again from its checkpoint")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended: it is done, or its last result names the cause."""
        if self._progress.rows[trial.config["name"]]["status"] == "pending":
            return
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
        self._progress.update()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Close the display."""
        self._progress.close()

    def _attempt(self, trial: Any) -> dict[str, Any]:
        """The number of this attempt, and the cause that ended the one before."""
        before = self._attempts(trial)
        return {"attempt": len(before) + 1, "cause": before[-1].cause if before else None}

    def _attempts(self, trial: Any) -> list[Attempt]:
        return read_attempts(self._store, self._folders[trial.config["name"]])

    def _change(self, trial: Any, **values: Any) -> dict[str, Any]:
        return self._progress.change(trial.config["name"], **values)

    def _end(self, row: dict[str, Any]) -> None:
        self._progress.end(row)
        self._on_end()


class PhaseCallback(Callback):
    """Tells how many trials have ended, from the first that starts on."""

    def __init__(self, tell: Tell, of: int) -> None:
        """`of` trials are to train."""
        self._tell, self._of = tell, of
        self._ended: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a worker."""
        self._tell(TRIALS, len(self._ended), self._of)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended."""
        self._ended.add(trial.trial_id)
        self._tell(TRIALS, len(self._ended), self._of)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and Tune gives the trial up."""
        self.on_trial_complete(iteration, trials, trial)
