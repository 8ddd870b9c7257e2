"""The state of an attempt while it runs, and what remains of it after its process has died.

Model: a worker that begins an attempt writes running.json into the trial's folder: its node, and
how many processes the kernel of that node had killed for lack of memory. It deletes the file when
the attempt ends. If the file remains, the process has died, and its node can tell why.
Invariant: no result is read or written here. Nothing imports torch, so a worker that only answers
questions about a dead one starts quickly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from raylab.errors import StoreError
from raylab.store.filesystem import Store, study_scratch
from raylab.store.phase import write_news
from raylab.store.records import (
    PROGRESS,
    Attempt,
    finite_or_none,
    trial_key,
    write_attempt,
    write_json,
)

RUNNING = "running.json"
STOP = "stop"
_STOP_CHECK_TIMEOUT = 1.0
"""Seconds; the question is asked again soon."""
_log = logging.getLogger("raylab.store")
_KERNEL_COUNTS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


class RunningAttempt(BaseModel):
    """An attempt that has begun and not ended. started: seconds since 1970."""

    model_config = ConfigDict(frozen=True, defer_build=True)
    attempt: int
    node: str
    pid: int = 0
    node_id: str = ""
    gpus: tuple[str, ...] = ()
    started: float
    oom_kills: int


def begin_attempt(store: Store, folder: str, running: RunningAttempt) -> RunningAttempt:
    """Record that an attempt has begun, and return it.

    If an earlier attempt is still recorded as running, it died with its driver: it is finished as
    `preempted`, and the new one gets the next number.
    """
    lost = read_running(store, folder)
    if lost:
        message = "it ended with its driver"
        finish_attempt(store, folder, lost, cause="preempted", message=message, final=False)
        running = running.model_copy(update={"attempt": lost.attempt + 1})
    write_json(store, trial_key(folder, RUNNING), running.model_dump())
    return running


def read_running(store: Store, folder: str) -> RunningAttempt | None:
    """The attempt that runs or has died; None if there is none, or its JSON is damaged."""
    key = trial_key(folder, RUNNING)
    if not store.exists(key):
        return None
    try:
        return RunningAttempt.model_validate_json(store.read(key))
    except ValidationError:
        return None


def clear_running(store: Store, folder: str) -> None:
    """Record that no attempt runs."""
    store.delete(trial_key(folder, PROGRESS))
    store.delete(trial_key(folder, RUNNING))


def write_progress(store: Store, folder: str, progress: Mapping[str, Any]) -> None:
    """Keep the progress of a trial or a merge, for `raylab status`; it may be lost."""
    values = {key: finite_or_none(value) for key, value in progress.items()}
    write_news(store, trial_key(folder, PROGRESS), "progress", values)


def finish_attempt(
    store: Store,
    folder: str,
    running: RunningAttempt,
    *,
    cause: str | None = None,
    message: str = "",
    final: bool = True,
) -> None:
    """Write the end of the attempt, and record that none runs. cause: None if it succeeded."""
    attempt = Attempt(
        attempt=running.attempt,
        cause=cause,
        message=message,
        final=final,
        node=running.node,
        gpus=running.gpus,
        started=running.started,
        seconds=max(0.0, time.time() - running.started) if running.started else 0.0,
    )
    write_attempt(store, folder, attempt)
    clear_running(store, folder)


def request_stop(store: Store) -> None:
    """Ask every trial to save a checkpoint and to end."""
    store.write(STOP, b"")


def clear_stop_request(store: Store) -> None:
    """Take the request to stop back."""
    store.delete(STOP)


def stop_checker(store: Store) -> Callable[[], bool]:
    """A function that returns whether the trials should stop.

    It returns False if the store does not answer soon.
    """
    store = store.with_timeout(_STOP_CHECK_TIMEOUT)

    def should_stop() -> bool:
        try:
            return store.exists(STOP)
        except StoreError as error:
            _log.warning("the store could not be asked whether to stop: %s", error)
            return False

    return should_stop


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for lack of memory.

    The count is that of this container, or else that of this machine.
    """
    for file in _KERNEL_COUNTS:
        if file.exists():
            counts = dict(line.split() for line in file.read_text().splitlines())
            if "oom_kill" in counts:
                return int(counts["oom_kill"])
    return 0


def hang_stack_file(store: Store, trial_id: str) -> Path:
    """Where this node keeps the stack of a trial that hung."""
    return study_scratch(store) / "stuck" / f"{trial_id}.txt"


def take_hang_stack(store: Store, trial_id: str) -> str:
    """The stack of a trial that hung on this node, or an empty text; its file is deleted."""
    file = hang_stack_file(store, trial_id)
    stack = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    file.unlink(missing_ok=True)
    return stack
