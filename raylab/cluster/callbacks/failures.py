"""Trials whose worker died: the cause, and how often Tune may restart them.

Model: when a worker dies, Tune restarts its trial on any node that has room, and the trial resumes
from the last checkpoint in the store. The node of the dead worker is asked for the cause: the
stack of a training that hung (`timeout`), or the kernel's or Ray's memory monitor (`oom`).
Otherwise the worker or its node is gone (`preempted`).
Invariant: any number of deaths is allowed if there is a checkpoint between them. Two deaths
without one end the trial, except that memory may run out once for every micro-batch. Every death
leaves an attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray import tune
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylab.plan.memory import can_shrink
from raylab.plan.trials import Trial
from raylab.store.attempt_state import (
    RunningAttempt,
    finish_attempt,
    kernel_oom_kills,
    read_running,
    take_hang_stack,
)
from raylab.store.filesystem import Store
from raylab.store.records import LOG, read_attempts, trial_key

MAX_DEATHS = 1
"""Deaths without a checkpoint after them."""
_ANSWER_SECONDS = 20.0
_RAY_OOM_MESSAGE = "low on memory"


class Death(NamedTuple):
    """The cause of a worker's death, as in the tables, and the stack that it left."""

    cause: str
    message: str
    stack: str = ""


class FailureCallback(tune.Callback):
    """Writes an attempt for every worker that died, and sets how often Tune may restart."""

    def __init__(self, store: Store, trials: Sequence[Trial]) -> None:
        """Watch over `trials`."""
        self._store = store
        self._trials = {trial.id: trial for trial in trials}
        self._checkpoints = dict.fromkeys(self._trials, 0)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Forget earlier deaths once there is a new checkpoint."""
        step = result.get("checkpoint", 0)
        if step > self._checkpoints[trial.trial_id]:
            self._checkpoints[trial.trial_id] = step
            _allow_death(trial)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and Tune restarts the trial."""
        planned = self._trials[trial.trial_id]
        death = self._close_attempt(trial, final=False)
        attempts = read_attempts(self._store, planned.folder)
        if death.cause == "oom" and can_shrink(planned.variant.training, attempts):
            _allow_death(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and Tune gives the trial up."""
        self._close_attempt(trial, final=True)

    def _close_attempt(self, trial: Any, *, final: bool) -> Death:
        folder = self._trials[trial.trial_id].folder
        before = len(read_attempts(self._store, folder))
        lost = read_running(self._store, folder)
        error = _last_error(trial)
        death = post_mortem(self._store, trial.trial_id, lost, error)
        lost = lost or RunningAttempt(attempt=before + 1, node="", started=0, oom_kills=0)
        cause, message = death.cause, death.message
        if final and cause != "oom":
            cause, message = "error", f"{message}, twice without a checkpoint in between"
        finish_attempt(self._store, folder, lost, cause=cause, message=message, final=final)
        if death.stack:
            key = trial_key(folder, LOG)
            log = self._store.read_if_there(key) or b""
            self._store.write(key, log + death.stack.encode())
        return death


def _allow_death(trial: Any) -> None:
    """Let one more worker of the trial die."""
    trial.max_failures = trial.run_metadata.num_failures + MAX_DEATHS


def _last_error(trial: Any) -> str:
    """Ray's message on the worker's death; Ray 2.60's own `get_error` reads it too early."""
    file = Path(trial.error_file or "")
    return file.read_text().rpartition("Failure # ")[2].strip() if file.is_file() else ""


def post_mortem(store: Store, trial_id: str, lost: RunningAttempt | None, error: str) -> Death:
    """The cause of a worker's death, given the attempt that it left and Ray's message."""
    if _RAY_OOM_MESSAGE in error:
        return Death("oom", "Ray ended its worker: the node was low on memory")
    if lost is None or not lost.node_id:
        return Death("preempted", f"its worker was lost: {error:.300}")
    place = NodeAffinitySchedulingStrategy(lost.node_id, soft=False)
    asked = _ask_node.options(num_cpus=0, scheduling_strategy=place).remote(store.uri, trial_id)
    try:
        stack, kills = ray.get(asked, timeout=_ANSWER_SECONDS)
    except (RayError, TimeoutError):
        return Death("preempted", f"its node {lost.node} is gone")
    if stack:
        return Death("timeout", "no step in the time that the study allows; see the log", stack)
    if kills > lost.oom_kills:
        return Death("oom", "the kernel ended its process: the node was out of memory")
    return Death("preempted", "its process was ended from outside")


@ray.remote(max_retries=0)
def _ask_node(out: str, trial_id: str) -> tuple[str, int]:
    """(stack that a trial left on this node, number of processes killed here for memory)."""
    return take_hang_stack(Store(out), trial_id), kernel_oom_kills()
