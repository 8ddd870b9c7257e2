"""What becomes of a trial whose worker died: told from what it left, and begun again.

Model: Tune begins a trial again when its worker died, on whatever node has room; it goes on from
the last checkpoint in the store. What killed the worker is asked of its node: the stack of a
training that hung (`timeout`), the kernel's or Ray's memory monitor (`oom`), and else the worker
or its node is gone (`preempted`).
Invariant: deaths with a checkpoint between them may be any number; two without one end the trial,
except that memory may run out once for every micro-batch. Every death leaves an attempt.
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

DEATHS_ALLOWED = 1
"""Without a checkpoint after it."""
_PATIENCE = 20.0
_RAY_SAYS_OOM = "low on memory"


class Death(NamedTuple):
    """Why a worker died, in the words of the tables, and the stack that it left."""

    cause: str
    message: str
    stack: str = ""


class Faults(tune.Callback):
    """Leaves an attempt for every worker that died, and says how often Tune may begin again."""

    def __init__(self, store: Store, trials: Sequence[Trial]) -> None:
        """Watch over `trials`."""
        self._store = store
        self._trials = {trial.id: trial for trial in trials}
        self._saved = dict.fromkeys(self._trials, 0)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A new checkpoint makes up for the deaths before it."""
        step = result.get("checkpoint", 0)
        if step > self._saved[trial.trial_id]:
            self._saved[trial.trial_id] = step
            _allow(trial)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and the trial begins again."""
        mine = self._trials[trial.trial_id]
        death = self._close(trial, final=False)
        attempts = read_attempts(self._store, mine.folder)
        if death.cause == "oom" and can_shrink(mine.variant.training, attempts):
            _allow(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and the trial has ended with it."""
        self._close(trial, final=True)

    def _close(self, trial: Any, *, final: bool) -> Death:
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
            _append(self._store, trial_key(folder, LOG), death.stack)
        return death


def _allow(trial: Any) -> None:
    """Let one more worker of the trial die."""
    trial.max_failures = trial.run_metadata.num_failures + DEATHS_ALLOWED


def _last_error(trial: Any) -> str:
    """What Ray said when the worker died; Ray 2.60's own `get_error` looks where it is not yet."""
    file = Path(trial.error_file or "")
    return file.read_text().rpartition("Failure # ")[2].strip() if file.is_file() else ""


def post_mortem(store: Store, trial_id: str, lost: RunningAttempt | None, error: str) -> Death:
    """Why the worker of a trial died, given what it left and what Ray says."""
    if _RAY_SAYS_OOM in error:
        return Death("oom", "Ray ended its worker: the node was low on memory")
    if lost is None or not lost.node_id:
        return Death("preempted", f"its worker was lost: {error:.300}")
    place = NodeAffinitySchedulingStrategy(lost.node_id, soft=False)
    asked = _ask_node.options(num_cpus=0, scheduling_strategy=place).remote(store.uri, trial_id)
    try:
        stack, kills = ray.get(asked, timeout=_PATIENCE)
    except (RayError, TimeoutError):
        return Death("preempted", f"its node {lost.node} is gone")
    if stack:
        return Death("timeout", "no step in the time that the study allows; see the log", stack)
    if kills > lost.oom_kills:
        return Death("oom", "the kernel ended its process: the node was out of memory")
    return Death("preempted", "its process was ended from outside")


@ray.remote(max_retries=0)
def _ask_node(out: str, trial_id: str) -> tuple[str, int]:
    """What a node knows of a trial that died on it: (stack, processes killed for memory)."""
    return take_hang_stack(Store(out), trial_id), kernel_oom_kills()


def _append(store: Store, key: str, text: str) -> None:
    known = store.read(key) if store.exists(key) else b""
    store.write(key, known + text.encode())
